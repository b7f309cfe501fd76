"""JoyVASA: its network against PyTorch's own decoder, its diffusion against closed forms, its files, its spans."""

import argparse
import math
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tiny_joyvasa as tiny
import torch
from safetensors.torch import save_file

from portraittalk_core.cli.motion import add_motion, motion_engine
from portraittalk_core.engines.contract import EngineFiles, check_makes, whole_keypoints, whole_track
from portraittalk_core.engines.joyvasa.engine import JoyVasa, averaged
from portraittalk_core.engines.joyvasa.files import load_template
from portraittalk_core.engines.joyvasa.network import GeneratorSize, MotionGenerator
from portraittalk_core.engines.joyvasa.options import JoyVasaOptions
from portraittalk_core.engines.joyvasa.sampling import Sampler
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.motion.dub import dub_track
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.types import KeypointTrack, Speech


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny.write_joyvasa(tmp_path_factory.mktemp("joyvasa"))


@pytest.fixture(scope="module")
def engine(file) -> JoyVasa:
    return open_engine(EngineFiles(file))


def speech(seconds: float, seed: int = 1) -> Speech:
    generator = torch.Generator().manual_seed(seed)
    return Speech(0.1 * torch.randn(round(16_000 * seconds), generator=generator).clamp(-3, 3), "clip.wav")


class Reference:
    """The public code's network and sampling, put together of PyTorch's own decoder."""

    def __init__(self) -> None:
        self.tensors = tiny.tensors()
        self.decoder = tiny.decoder().eval()
        self.decoder.load_state_dict(self.part("denoising_net.transformer."))

    def part(self, prefix: str) -> dict:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def waves(self, count: int) -> torch.Tensor:
        table = [
            [(math.sin, math.cos)[i % 2](place / 10_000 ** ((i - i % 2) / tiny.WIDTH)) for i in range(tiny.WIDTH)]
            for place in range(count)
        ]
        return torch.tensor(table)

    def __call__(self, motion: torch.Tensor, sound: torch.Tensor, step: int) -> torch.Tensor:
        gelu = torch.nn.functional.gelu
        time = self.linear("denoising_net.diff_step_map.0", self.waves(tiny.STEPS + 1)[step])
        x = self.linear("denoising_net.feature_proj", motion) + self.waves(motion.shape[1])
        x = x + self.linear("denoising_net.diff_step_map.2", gelu(time))
        x = self.decoder(x, sound, memory_mask=self.tensors["denoising_net.alignment_mask"])
        return self.linear("denoising_net.motion_dec.2", gelu(self.linear("denoising_net.motion_dec.0", x)))

    def window(self, before, sound_before, sound, noise, guidance) -> torch.Tensor:
        """All steps of a window; noise of a step comes from PyTorch's own generator."""
        silent = self.tensors["null_audio_feat"].expand_as(sound)
        betas = tiny.cosine_betas().double()
        bars = torch.cat([torch.ones(1).double(), (1 - betas).cumprod(0)])
        x = noise
        for step in range(tiny.STEPS, 0, -1):
            z = torch.randn_like(x) if step > 1 else torch.zeros_like(x)
            clean = [
                self(torch.cat([before, x], 1), torch.cat([sound_before, said], 1), step)[:, -tiny.FRAMES :]
                for said in (silent, sound)
            ]
            target = clean[0] + guidance * (clean[1] - clean[0])
            beta, bar, last = betas[step - 1], bars[step], bars[step - 1]
            mean = last.sqrt() * beta / (1 - bar) * target + (1 - beta).sqrt() * (1 - last) / (1 - bar) * x
            x = (mean + ((1 - last) / (1 - bar) * beta).sqrt() * z).float()
        return x


@torch.no_grad()
def test_motion_is_that_of_pytorchs_own_decoder(engine):
    """Three windows, of which each goes on from the one before, with the same noise at their beginning."""
    clip, reference = speech(2.1), Reference()
    made = engine.motion(clip, seed=3)
    torch.manual_seed(3)
    before, sound_before = reference.tensors["start_motion_feat"], reference.tensors["start_audio_feat"]
    noise = torch.randn(1, tiny.FRAMES, tiny.MOTION)
    padded = torch.nn.functional.pad(clip.waveform, (1280, 100_000))
    expected = []
    for index in range(3):
        piece = padded[index * tiny.FRAMES * 640 : (index + 1) * tiny.FRAMES * 640].numpy()
        for _ in range(2):
            piece = np.pad(piece, 20, mode="reflect")
        rows = engine.hubert(torch.from_numpy(piece)[None]).last_hidden_state
        halved = torch.nn.functional.interpolate(rows.mT, size=tiny.FRAMES, mode="linear", align_corners=False).mT
        sound = reference.linear("audio_feature_map", halved)
        window = reference.window(before, sound_before, sound, noise, 2.8)
        before, sound_before = window[:, -tiny.PREVIOUS :], sound[:, -tiny.PREVIOUS :]
        expected.append(window[0])
    assert made.shape == (53, 70)  # ceil(2.1 · 25)
    torch.testing.assert_close(made, torch.cat(expected)[:53], atol=2e-5, rtol=1e-5)


def test_published_sizes_make_the_published_file():
    """The file has 414 MB: the generator's numbers and those of HuBERT base (94.4 million), in single precision."""
    with torch.device("meta"):
        network = MotionGenerator(GeneratorSize())
    numbers = sum(p.numel() for p in network.state_dict().values())
    assert 412e6 < 4 * (numbers + 94.4e6) < 416e6


class Oracle(torch.nn.Module):
    """Knows the clean motion, whatever it is given."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def audio_attention(self, audio):
        return []

    def forward(self, motion, heard, step):
        return torch.cat([motion[:, : tiny.PREVIOUS], self.clean.expand(2, -1, -1)], 1)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 6, 50])
def test_any_number_of_steps_finds_what_the_network_knows(engine, steps, monkeypatch):
    clean = torch.randn(1, tiny.FRAMES, tiny.MOTION)
    network = MotionGenerator(engine.network.size)
    network.load_state_dict(engine.network.state_dict())
    network.denoising_net = Oracle(clean)
    sampler = Sampler(network, 2.0, steps)
    called = []
    sounds = iter([torch.randn(1, tiny.FRAMES, tiny.WIDTH)])
    (made,) = sampler.windows(sounds, torch.Generator().manual_seed(0), lambda: called.append(1))
    torch.testing.assert_close(made, clean[0], atol=1e-5, rtol=0)
    assert len(called) == len(sampler) == min(steps or tiny.STEPS, tiny.STEPS)


def test_steps_fall_from_the_last_to_the_first(engine):
    assert Sampler(engine.network, 1.0).times() == [6, 5, 4, 3, 2, 1]
    assert Sampler(engine.network, 1.0, 3).times() == [6, 4, 1]


def test_a_jump_keeps_the_noise_that_is_left(engine):
    """x = √ᾱ clean + √(1−ᾱ) noise at one step is the same mixture at the other."""
    clean, noise = torch.randn(2, 1, 5, 3).unbind()
    bars = torch.cat([torch.ones(1).double(), (1 - tiny.cosine_betas().double()).cumprod(0)])
    mixed = [(bar.sqrt() * clean + (1 - bar).sqrt() * noise).float() for bar in bars]
    made = Sampler(engine.network, 1.0, 3)._jump(mixed[5], clean, 5, 2)
    torch.testing.assert_close(made, mixed[2], atol=1e-5, rtol=0)


def test_numbers_get_their_units(tmp_path):
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(tiny.template(), 4))
    template, values = load_template(tmp_path / "t.pkl"), tiny.template()
    made = template.in_units(torch.cat([torch.zeros(1, 70), torch.ones(1, 70)]))
    np.testing.assert_allclose(made[0, :63], values["mean_exp"], atol=1e-7)
    np.testing.assert_allclose(made[1, :63], values["mean_exp"] + values["std_exp"], atol=1e-7)
    assert made[0, 63:].tolist() == pytest.approx([1.0, -0.1, -0.1, -0.1, -20, -20, -20])
    assert made[1, 63:].tolist() == pytest.approx([1.5, 0.1, 0.1, 0.1, 20, 20, 20])


def unsmoothed(engine: JoyVasa) -> JoyVasa:
    """The engine without any smoothing of the head."""
    return JoyVasa(engine.network, engine.hubert, engine.template, JoyVasaOptions(head_smoothing=0.0))


def test_a_track_holds_the_numbers_in_the_public_order(engine):
    clip = speech(1.0)
    track = unsmoothed(engine).track(clip)
    motion = engine.template.in_units(engine.motion(clip))
    assert (len(track), track.layout, track.fps) == (25, "liveportrait-21", 25)
    torch.testing.assert_close(track.expression, motion[:, :63].reshape(25, 21, 3))
    torch.testing.assert_close(track.scale, motion[:, 63])
    torch.testing.assert_close(track.translation, motion[:, 64:67])
    torch.testing.assert_close(track.rotation_deg, motion[:, 67:70])


def test_the_head_is_averaged_as_the_public_code_does(engine):
    values = torch.randn(30, 7)
    expected = [values[0].double()]
    for value in values[1:].double():
        expected.append(0.01 * value + 0.99 * expected[-1])
    torch.testing.assert_close(averaged(values, 0.01).double(), torch.stack(expected), atol=1e-6, rtol=0)
    calm, lively = engine.track(speech(2.0)), unsmoothed(engine).track(speech(2.0))
    assert torch.equal(calm.expression, lively.expression)
    for name in ("rotation_deg", "translation", "scale"):
        raw = getattr(lively, name).flatten(1) if name != "scale" else lively.scale[:, None]
        smooth = getattr(calm, name) if name != "scale" else calm.scale[:, None]
        torch.testing.assert_close(smooth, averaged(raw, 0.01))


@pytest.mark.parametrize("fps", [Fraction(12), Fraction(24), Fraction(30000, 1001), Fraction(60)])
def test_other_rates_show_the_same_motion(engine, fps):
    clip, plain = speech(1.3), unsmoothed(engine)
    own, other = plain.track(clip), plain.track(clip, MotionOptions(fps=fps))
    assert len(other) == clip.num_frames(fps) and other.fps == fps
    at = (np.arange(len(other)) + 0.5) / float(fps)
    known = (np.arange(len(own)) + 0.5) / 25
    for name in ("expression", "rotation_deg", "translation"):
        curves = getattr(own, name).flatten(1).numpy()
        expected = np.stack([np.interp(at, known, curve) for curve in curves.T], 1)
        np.testing.assert_allclose(getattr(other, name).flatten(1), expected, atol=1e-4)


def test_options_of_motion(engine):
    clip, plain = speech(1.5), unsmoothed(engine)
    made = plain.track(clip)
    locked = plain.track(clip, MotionOptions(head_motion=0.0))
    assert float(locked.rotation_deg.std(0).max()) < 1e-4 < float(made.rotation_deg.std(0).max())
    late = plain.track(clip, MotionOptions(offset_ms=80.0))
    torch.testing.assert_close(late.expression[2:], made.expression[:-2], atol=1e-5, rtol=0)
    assert torch.equal(late.rotation_deg, made.rotation_deg)
    quiet = plain.track(clip, MotionOptions(mouth_gain=0.0))
    lips, rest = [6, 12, 14, 17, 19, 20], [0, 3, 4, 5, 7, 8, 9, 10, 11]
    assert torch.equal(quiet.expression[:, rest], made.expression[:, rest])
    assert not torch.equal(quiet.expression[:, lips], made.expression[:, lips])
    other = plain.track(clip, MotionOptions(seed=1))
    assert not torch.equal(other.expression, made.expression)
    assert torch.equal(plain.track(clip).expression, made.expression)


def test_spans_and_progress(engine, monkeypatch):
    monkeypatch.setattr("portraittalk_core.engines.joyvasa.engine.SPAN", 16)
    clip, calls = speech(1.5), []
    spans = engine.spans(clip, None, MotionOptions(), lambda *call: calls.append(call))
    first = next(spans)
    assert isinstance(first, KeypointTrack) and len(first) == 16
    assert calls[-1] == (38, 38) and calls == sorted(calls) and len(calls) == 2 * tiny.STEPS
    whole = whole_keypoints(engine, clip, None, MotionOptions())
    assert len(whole) == 38
    assert torch.equal(torch.cat([first.expression, *(span.expression for span in spans)]), whole.expression)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(engine.spans(clip, None, MotionOptions(), stop))


def test_a_clip_of_one_sample_has_a_frame(engine):
    assert len(engine.track(Speech(torch.zeros(1)))) == 1


def test_keypoints_are_refused_where_landmarks_are_needed(engine):
    needs = "engine joyvasa makes keypoints of liveportrait-21, and landmarks are needed here.*renderer liveportrait"
    with pytest.raises(InputError, match=needs):
        whole_track(engine, speech(0.2), None)
    assert check_makes(engine, "landmarks", "liveportrait-21") is engine
    with pytest.raises(InputError, match="engine embedded makes landmarks"):
        whole_keypoints(open_engine(), speech(0.2), None)


def test_a_film_is_not_dubbed_with_keypoints(engine, astronaut):
    face = astronaut.landmarks
    filmed = replace(face, points=face.points.expand(10, -1, -1), valid=torch.ones(10, dtype=torch.bool))
    with pytest.raises(InputError, match="a film's face is landmarks, and the engine joyvasa makes keypoints"):
        dub_track(filmed, speech(0.4), MotionOptions(), engine)


def test_the_template_is_found_beside_or_as_published(file, tmp_path):
    (tmp_path / "motion_generator").mkdir()
    (tmp_path / "motion_template").mkdir()
    weights = tmp_path / "motion_generator" / "g.pt"
    weights.write_bytes(file.read_bytes())
    with pytest.raises(MissingDependency, match=r"g\.pt cannot be used yet: put motion_template\.pkl .*MIT"):
        open_engine(EngineFiles(weights))
    (tmp_path / "motion_template" / "motion_template.pkl").write_bytes(pickle.dumps(tiny.template(), 4))
    assert open_engine(EngineFiles(weights)).name == "joyvasa"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"denoising_net.alignment_mask": torch.zeros(24, 24, dtype=torch.bool)}, "mask of another kind"),
        ({"denoising_net.transformer.layers.1.norm2.bias": None}, "lacks .*layers.1.norm2.bias"),
        ({"audio_encoder.feature_extractor.conv_layers.0.conv.weight": None}, "not a complete speech encoder"),
        ({"null_audio_feat": torch.full((1, 1, 16), torch.nan)}, "NaN or infinite"),
        ({"diffusion_sched.betas": None}, "lacks diffusion_sched.betas"),
        ({"extra": torch.zeros(1)}, "also holds extra"),
    ],
)  # fmt: skip
def test_a_wrong_generator_is_named(changes, message, tmp_path):
    path = tiny.write_joyvasa(tmp_path, **changes)
    with pytest.raises(InputError, match=rf"motion_generator\.pt.*{message}"):
        open_engine(EngineFiles(path))


def test_a_generator_without_its_encoder_is_named(tmp_path):
    gone = {name: None for name in tiny.tensors() if name.startswith("audio_encoder.")}
    with pytest.raises(InputError, match=r"motion_generator\.pt lacks the speech encoder"):
        open_engine(EngineFiles(tiny.write_joyvasa(tmp_path, **gone)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("max_yaw"), "it lacks max_yaw"),
        (lambda t: t.update(std_exp=np.zeros(62)), "std_exp has 62 numbers"),
        (lambda t: t.update(min_t=np.array([0, np.nan, 0])), "NaN or infinite in min_t"),
        (lambda t: t.update(min_t="text"), "min_t in motion_template.pkl is no array"),
        (lambda t: t.update(min_t=print), "could run code"),
    ],
)
def test_a_wrong_template_is_named(change, message, file, tmp_path):
    (tmp_path / "g.pt").write_bytes(file.read_bytes())
    values = tiny.template()
    change(values)
    (tmp_path / "motion_template.pkl").write_bytes(pickle.dumps(values, 4))
    with pytest.raises(InputError, match=rf"motion_template\.pkl.*{message}|{message}"):
        open_engine(EngineFiles(tmp_path / "g.pt"))


def test_a_number_in_the_template_stands_for_all(file, tmp_path):
    values = tiny.template() | {"min_t": -0.1, "max_scale": np.float32(1.5), "mean_exp": np.zeros((1, 21, 3))}
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(values, 4))
    template = load_template(tmp_path / "t.pkl")
    assert template.least[1:4].tolist() == pytest.approx([-0.1] * 3) and template.mean.shape == (63,)


def test_another_model_is_no_motion_engine(tmp_path):
    save_file({"start_motion_feat": torch.zeros(1, 4, 50)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="none that is known"):
        open_engine(EngineFiles(tmp_path / "x.safetensors"))


def parsed(*words: object):
    parser = argparse.ArgumentParser()
    add_motion(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_command_line_has_its_options(file):
    engine = motion_engine(parsed("--engine", file, "--joyvasa-steps", "3", "--joyvasa-guidance", "1.5"))
    assert (engine.options.steps, engine.options.guidance, engine.options.head_smoothing) == (3, 1.5, 0.99)
    with pytest.raises(InputError, match="--joyvasa-steps cannot be used with the engine embedded"):
        motion_engine(parsed("--joyvasa-steps", "3"))
    with pytest.raises(InputError, match="--encoder and --joyvasa-guidance cannot be used"):
        motion_engine(parsed("--joyvasa-guidance", "3", "--encoder", file))
    with pytest.raises(InputError, match="--joyvasa-steps must lie between 0 and 1000"):
        motion_engine(parsed("--engine", file, "--joyvasa-steps", "-1"))
