import math
from types import SimpleNamespace

import made_voice
import numpy as np
import pytest
import torch
from scipy.special import erf
from torch.nn.functional import pad

from portraittalk_core.engines.audio2motion import engine as audio2motion
from portraittalk_core.engines.audio2motion.build import build
from portraittalk_core.engines.audio2motion.engine import (
    Audio2Motion,
    ExpressionOptions,
    expression,
    padded_speech,
    resting_expression,
)
from portraittalk_core.engines.audio2motion.network import (
    ExpressionNet,
    ExpressionSize,
    load_expression_net,
    net_of_tensors,
)
from portraittalk_core.engines.contract import EngineFiles, listening_to
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.morphable import MorphableModel
from portraittalk_core.speech.encoders import features_from_tensor
from portraittalk_core.types import LandmarkTrack, Speech, as_fps

RATE = 16000
PUBLIC = {  # some of what the published file holds
    "vae.decoder.wn.in_layers.3.weight_v": (512, 256, 5),
    "vae.decoder.wn.cond_layer.weight_g": (2048, 1, 1),
    "vae.prior_flow.flows.6.enc.res_skip_layers.3.weight_v": (64, 64, 1),
    "vae.prior_flow.flows.0.post.weight": (8, 64, 1),
    "vae.g_pre_net.0.weight": (128, 128, 8),
    "cond_proj.weight": (128, 512),
    "mouth_amp_embed": (128,),
}


def published(size: ExpressionSize) -> dict[str, torch.Tensor]:
    """Random tensors as a published file names them: gated convolutions as length and direction."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in ExpressionNet(size).state_dict().items():
        if tensor.dtype == torch.long:
            tensors[name] = tensor
            continue
        fan = max(tensor[0].numel(), 1) if tensor.ndim else 1
        value = torch.randn(tensor.shape, generator=generator) / math.sqrt(fan)
        if name.endswith("running_var"):
            value = 0.5 + value.abs()
        if name.endswith("weight") and any(part in name for part in ("in_layers", "res_skip_layers", "cond_layer")):
            tensors[name + "_v"] = value
            tensors[name + "_g"] = 0.5 + torch.rand(len(value), 1, 1, generator=generator)
        else:
            tensors[name] = value
    tensors["vae.encoder.out_proj.weight"] = torch.zeros(32, 256, 1)  # training's half
    return tensors


class ByHand:
    """The published network in NumPy, one frame and one tap at a time."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.given = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def conv(self, name: str, x: np.ndarray, stride: int = 1, margin: int = 0) -> np.ndarray:
        weight = self.given.get(f"{name}.weight")
        if weight is None:
            direction = self.given[f"{name}.weight_v"]
            weight = self.given[f"{name}.weight_g"] * direction
            weight = weight / np.sqrt((direction**2).sum((1, 2), keepdims=True))
        x = np.pad(x, ((0, 0), (margin, margin)))
        starts = range(0, x.shape[1] - weight.shape[2] + 1, stride)
        out = np.stack([np.tensordot(weight, x[:, s : s + weight.shape[2]], ([1, 2], [0, 1])) for s in starts], 1)
        return out + self.given.get(f"{name}.bias", np.zeros(len(weight)))[:, None]

    def encoder(self, name: str, x: np.ndarray) -> np.ndarray:
        x = self.conv(f"{name}.0", x, margin=1)
        mean, var, scale, bias = (
            self.given[f"{name}.1.{part}"][:, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
        return self.conv(f"{name}.3", x * 0.5 * (1 + erf(x / math.sqrt(2))), margin=1)

    def gated(self, name: str, x: np.ndarray, g: np.ndarray, margin: int) -> np.ndarray:
        hidden, total = len(x), 0
        shift = self.conv(f"{name}.cond_layer", g)
        for i in range(4):
            a = self.conv(f"{name}.in_layers.{i}", x, margin=margin) + shift[2 * hidden * i : 2 * hidden * (i + 1)]
            a = self.conv(f"{name}.res_skip_layers.{i}", np.tanh(a[:hidden]) / (1 + np.exp(-a[hidden:])))
            if i < 3:
                x = x + a[:hidden]
                total = total + a[hidden:]
            else:
                total = total + a
        return total

    def run(self, features: np.ndarray, f0: np.ndarray, blink: np.ndarray, mouth_amp: float) -> np.ndarray:
        def mel(hz: float) -> float:
            return 1127 * math.log(1 + hz / 700)

        steps = [1 if hz == 0 else round((mel(hz) - mel(50)) * 254 / (mel(1100) - mel(50)) + 1) for hz in f0[::2]]
        heard = self.encoder("mel_encoder", features[::2].T)
        sung = self.encoder("pitch_encoder", self.given["pitch_embed.weight"][steps].T)
        seen = self.given["blink_embed.weight"][blink[::2]].T
        amp = np.repeat(mouth_amp * self.given["mouth_amp_embed"][:, None], heard.shape[1], 1)
        g = self.given["cond_proj.weight"] @ np.concatenate([heard, sung, seen, amp])
        g = g + self.given["cond_proj.bias"][:, None]
        coarse = self.conv("vae.g_pre_net.0", g, 4, 2)
        z = np.zeros((16, coarse.shape[1]))
        for i in (6, 4, 2, 0):
            z = z[::-1]
            flow = f"vae.prior_flow.flows.{i}"
            moved = self.conv(f"{flow}.post", self.gated(f"{flow}.enc", self.conv(f"{flow}.pre", z[:8]), coarse, 1))
            z = np.concatenate([z[:8], z[8:] - moved])
        spread = np.einsum("iz,iok->ozk", z, self.given["vae.decoder.pre_net.0.weight"])
        x = spread.reshape(len(spread), -1) + self.given["vae.decoder.pre_net.0.bias"][:, None]
        return self.conv("vae.decoder.out_proj", self.gated("vae.decoder.wn", x, g, 2)).T


@pytest.fixture(scope="module")
def tensors():
    return published(ExpressionSize())


@pytest.fixture(scope="module")
def net(tensors):
    return net_of_tensors(tensors, "test")


@pytest.fixture(scope="module")
def small():
    """A network of eight features, quick on long clips."""
    return net_of_tensors(published(ExpressionSize(features=8)), "test")


def heard(frames: int, width: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    f0 = 80 + 600 * torch.rand(frames, generator=generator)
    return torch.randn(frames, width, generator=generator), f0 * (torch.rand(frames, generator=generator) > 0.3)


@pytest.mark.parametrize(("frames", "expected"), [(48, 24), (56, 28)])
def test_expression_matches_the_network_by_hand(tensors, net, frames, expected):
    features, f0 = heard(frames)
    blink = (torch.arange(frames) % 10 < 4).long()
    shown = expression(net, features, f0, ExpressionOptions(mouth_amp=0.7), blink)
    by_hand = ByHand(tensors).run(features.double().numpy(), f0.double().numpy(), blink.numpy(), 0.7)
    assert shown.shape == by_hand.shape == (expected, 64)
    assert np.abs(by_hand).max() > 0.3
    assert np.abs(shown.numpy() - by_hand).max() < 1e-5


def test_network_has_the_published_tensors(tensors):
    assert len(tensors) - 1 == 231 - 55  # all but training's half
    assert {name: tuple(tensors[name].shape) for name in PUBLIC} == PUBLIC


@pytest.mark.parametrize(("size", "width"), [
    (ExpressionSize(8), 512), (ExpressionSize(8, mouth_amp=False), 384), (ExpressionSize(8, eye_amp=True), 640),
])  # fmt: skip
def test_variants_follow_from_the_names(size, width):
    net = net_of_tensors(published(size), "test")
    assert net.size == size
    assert net.cond_proj.weight.shape == (128, width)
    assert expression(net, *heard(16, 8)).shape == (8, 64)


def test_the_variant_without_pitch_hears_features_alone():
    net = net_of_tensors(published(ExpressionSize(8, pitch=False, mouth_amp=False)), "test")
    features, f0 = heard(16, 8)
    assert torch.equal(expression(net, features, f0), expression(net, features, torch.zeros(16)))


@pytest.mark.parametrize("outer", [
    lambda t: {"state_dict": {"model": t}, "global_step": 400_000, "optimizer_states": [{"a": torch.ones(1)}]},
    lambda t: {"state_dict": {f"model.{name}": value for name, value in t.items()}},
    lambda t: t,
], ids=["as published", "flat", "bare"])  # fmt: skip
def test_files_load_however_they_nest(tmp_path, outer):
    tensors = published(ExpressionSize(8))
    torch.save(outer(tensors), tmp_path / "a.ckpt")
    loaded = load_expression_net(tmp_path / "a.ckpt")
    assert torch.equal(expression(loaded, *heard(16, 8)), expression(net_of_tensors(tensors, "b"), *heard(16, 8)))


def test_wrong_files_are_refused(tmp_path):
    tensors = published(ExpressionSize(8))
    with pytest.raises(InputError, match="a.ckpt.*vae.sqz"):
        net_of_tensors({**tensors, "vae.sqz.weight": torch.ones(1)}, "a.ckpt")
    with pytest.raises(InputError, match="a.ckpt.*lacks.*post.bias"):
        net_of_tensors({n: t for n, t in tensors.items() if n != "vae.prior_flow.flows.2.post.bias"}, "a.ckpt")
    with pytest.raises(InputError, match="mel_encoder"):
        net_of_tensors({"out_fn.weight": torch.ones(3)}, "a.ckpt")
    with pytest.raises(MissingDependency, match="none.ckpt"):
        load_expression_net(tmp_path / "none.ckpt")


def test_a_last_feature_is_held_to_fill_the_networks_steps(small):
    features, f0 = heard(50, 8)
    held = expression(small, torch.cat([features, features[-1:].expand(6, -1)]), pad(f0, (0, 6), value=float(f0[-1])))
    assert torch.equal(expression(small, features, f0), held[:25])


def test_spans_leave_no_seam(small, monkeypatch):
    features, f0 = heard(2400, 8)
    options = ExpressionOptions(temperature=0.8)
    whole = expression(small, features, f0, options)
    seen = []
    monkeypatch.setattr(audio2motion, "SPAN", 400)
    spans = expression(small, features, f0, options, on_progress=lambda done, total: seen.append((done, total)))
    assert (whole - spans).abs().max() < 1e-5
    assert seen == [(400 * i, 2400) for i in range(1, 7)]


def test_temperature_varies_by_seed_and_zero_never_does(small):
    def shown(temperature: float, seed: int) -> torch.Tensor:
        return expression(small, *heard(48, 8), ExpressionOptions(temperature=temperature, seed=seed))

    assert torch.equal(shown(0, 1), shown(0, 2))
    assert torch.equal(shown(0.2, 1), shown(0.2, 1))
    assert not torch.allclose(shown(0.2, 1), shown(0.2, 2), atol=1e-3)


@pytest.mark.parametrize("value", [{"mouth_amp": 1.5}, {"temperature": -0.1}, {"eye_amp": math.nan}, {"seed": -1}])
def test_options_reject_what_lies_outside(value):
    with pytest.raises(InputError, match=next(iter(value))):
        ExpressionOptions(**value)


@pytest.mark.parametrize("samples", [1, 400, 640, 641, 2560, 2561, 16000, 31999, 160001])
def test_padded_speech_fills_steps_of_eight_features(samples):
    frames = math.ceil(samples / 640)  # at 25 a second
    padded = padded_speech(Speech(torch.ones(samples))).waveform
    features = (len(padded) - 80) // 320
    assert features % 8 == 0
    assert frames <= features // 2 < frames + 4
    assert padded[:samples].eq(1).all()
    assert not padded[samples:].any()


def syllables() -> Speech:
    """A second of silence, two of syllables, four a second, one of silence."""
    return Speech(pad(made_voice.syllables(2), (RATE, RATE)))


def test_expression_at_rest_is_that_of_silence():
    shown = torch.full((100, 64), 5.0)
    shown[:24] = shown[78:] = 0.3  # where nothing sounds; the syllables' ends may count as either
    shown[24:27] = shown[73:78] = 0.3
    assert torch.equal(resting_expression(shown, syllables()), torch.full((64,), 0.3))


def test_expression_at_rest_is_the_neutral_one_without_silence():
    """Steady speech: every frame of it is spoken."""
    spoken = syllables().waveform[RATE : 3 * RATE] + 0.02 * syllables().waveform[RATE + 2000 : 3 * RATE + 2000]
    assert not resting_expression(torch.ones(50, 64), Speech(spoken)).any()


class EarLike:
    """Stands in for a speech encoder: eight features that follow the loudness."""

    def __init__(self, width: int = 8, rate_hz: float = 50) -> None:
        self.width, self.rate_hz = width, rate_hz

    def encode(self, speech, on_progress=None):
        frames = speech.waveform[80:].unfold(0, 320, 320)
        values = frames.abs().mean(1)[:, None] * torch.linspace(-20, 20, self.width)
        if on_progress:
            on_progress(1, 2)
            on_progress(2, 2)
        return SimpleNamespace(values=values, rate_hz=self.rate_hz, name="ear")


@pytest.fixture(scope="module")
def morphable():
    generator = torch.Generator().manual_seed(0)
    mean = canonical_face()[:468].double() * torch.tensor([0.6, -0.6, -0.6])
    bases = (0.02 * torch.randn(468, 3, count, generator=generator).double() for count in (4, 64))
    return MorphableModel(torch.arange(468), mean, *bases)


@pytest.fixture
def reference():
    face = canonical_face() * 100 + torch.tensor([250.0, 200.0, 0.0])
    return LandmarkTrack.from_px(face[None], 512, 512, as_fps(25))


def test_engine_moves_a_face_with_speech_around_its_rest(small, morphable, reference):
    seen = []
    engine = Audio2Motion(small, EarLike(), morphable)
    motion = engine.raw_motion(syllables(), reference, lambda *told: seen.append(told))
    assert motion.shift_px.shape == (100, 478, 3)
    assert motion.rate == 25
    still = torch.cat([motion.shift_px[:24], motion.shift_px[78:]])
    assert still.mean(0).abs().mean() < 0.1 * motion.shift_px[30:75].abs().mean()
    assert seen == sorted(seen)
    assert seen[-1] == (1000, 1000)
    assert len(seen) > 4


def test_engine_gives_exactly_no_motion_for_an_unchanging_expression(morphable, reference):
    tensors = published(ExpressionSize(8))
    tensors["vae.decoder.out_proj.weight"].zero_()
    frozen = net_of_tensors(tensors, "test")
    motion = Audio2Motion(frozen, EarLike(), morphable).raw_motion(syllables(), reference)
    assert not motion.shift_px.any()


def test_engine_takes_an_encoder_that_drops_a_last_frame(small, morphable, reference):
    class Short(EarLike):
        def encode(self, speech, on_progress=None):
            full = super().encode(speech, on_progress)
            return SimpleNamespace(values=full.values[:-1], rate_hz=50, name="short")

    whole, short = (Audio2Motion(small, e, morphable).raw_motion(syllables(), reference) for e in (EarLike(), Short()))
    assert torch.allclose(whole.shift_px, short.shift_px, atol=1e-4)  # it ends in silence


@pytest.mark.parametrize("samples", [1, 5000])
def test_engine_speaks_the_shortest_clips(small, morphable, reference, samples):
    motion = Audio2Motion(small, EarLike(), morphable).raw_motion(Speech(0.1 * torch.ones(samples)), reference)
    assert len(motion) == math.ceil(samples / 640)


@pytest.mark.parametrize(("encoder", "found"), [(EarLike(768), "768"), (EarLike(8, 25), "25 Hz")])
def test_engine_rejects_another_encoders_features(small, morphable, reference, encoder, found):
    with pytest.raises(InputError, match=f"{found}.*ear"):
        Audio2Motion(small, encoder, morphable).raw_motion(syllables(), reference)


def test_engine_rejects_other_models_and_references(small, morphable, reference):
    few = MorphableModel(morphable.landmarks, morphable.mean, morphable.identity, morphable.expression[..., :10])
    with pytest.raises(InputError, match="10 expressions"):
        Audio2Motion(small, EarLike(), few)
    two = LandmarkTrack.from_px(reference.points_px.expand(2, -1, -1), 512, 512, as_fps(25))
    with pytest.raises(InputError, match="one frame"):
        Audio2Motion(small, EarLike(), morphable).raw_motion(syllables(), two)


def test_progress_may_interrupt(small, morphable, reference):
    def stop(done: int, total: int) -> None:
        if done > 850:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Audio2Motion(small, EarLike(), morphable).raw_motion(syllables(), reference, stop)


def test_features_made_elsewhere_take_the_encoders_place(small, morphable, reference):
    speech, engine = syllables(), Audio2Motion(small, EarLike(), morphable)
    padded = EarLike().encode(padded_speech(speech)).values
    given = listening_to(Audio2Motion(small, None, morphable), features_from_tensor(padded, "given"))
    motion = engine.raw_motion(speech, reference)
    assert torch.equal(given.raw_motion(speech, reference).shift_px, motion.shift_px)
    still = listening_to(engine, features_from_tensor(torch.zeros_like(padded), "zeros"))
    assert not torch.equal(still.raw_motion(speech, reference).shift_px, motion.shift_px)
    assert torch.equal(engine.raw_motion(speech, reference).shift_px, motion.shift_px)  # which keeps its own encoder


def test_a_missing_encoder_is_told_when_it_is_needed(morphable, reference, tmp_path, monkeypatch):
    for name in ("BFM_model_front.mat", "index_mp468_from_mesh35709.npy"):
        (tmp_path / name).touch()
    torch.save(published(ExpressionSize(8)), tmp_path / "a2m.ckpt")
    monkeypatch.setattr("portraittalk_core.engines.audio2motion.build.load_morphable", lambda *_: morphable)
    engine = build(EngineFiles(tmp_path / "a2m.ckpt"))
    expected = r"a2m.ckpt cannot be used yet: it needs the speech encoder facebook/hubert-large.*Apache-2.0.*--encoder"
    with pytest.raises(MissingDependency, match=expected):
        next(engine.spans(syllables(), reference))
