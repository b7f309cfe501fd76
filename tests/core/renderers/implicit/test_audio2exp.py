"""Audio2Exp: sizes and order of the public weights, files, amounts over time, and driving by speech."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_hubert import tiny_hubert, write_tiny_hubert

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.renderers.contract import Callbacks, RenderJob
from portraittalk_core.renderers.implicit import interrupt
from portraittalk_core.renderers.implicit.audio2exp.alpha import AlphaCurve
from portraittalk_core.renderers.implicit.audio2exp.driver import Audio2ExpDriver
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp, save_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp, Audio2ExpSize
from portraittalk_core.renderers.implicit.files import random_model
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.speech.windows import ROWS, made_silence, missing_samples, windows_of
from portraittalk_core.types import KeypointTrack, Speech

TINY = Audio2ExpSize(features=64, widths=(12, 10, 8, 6))
LIVE = replace(TINY, layout="liveportrait-21")


def filled(size: Audio2ExpSize = TINY, seed: int = 0) -> Audio2Exp:
    """With a random last layer, which would be zero."""
    torch.manual_seed(seed)
    network = Audio2Exp(size).eval().requires_grad_(False)
    network.out_fc.weight.normal_(std=0.1)
    network.out_fc.bias.normal_(std=0.1)
    return network


def track(frames: int, layout: str = "face-vid2vid-15", fps: Fraction = Fraction(25), seed: int = 0) -> KeypointTrack:
    generator = torch.Generator().manual_seed(seed)
    expression = torch.randn(frames, {"face-vid2vid-15": 15, "liveportrait-21": 21}[layout], 3, generator=generator)
    still, valid = torch.zeros(frames, 3), torch.ones(frames, dtype=torch.bool)
    return KeypointTrack(expression, still, still, torch.ones(frames), valid, fps, layout)


def speech(samples: int = 32_000) -> Speech:
    generator = torch.Generator().manual_seed(5)
    return Speech(0.1 * torch.randn(samples, generator=generator).clamp(-3, 3))


def moved_by_hand(network: Audio2Exp, expression: torch.Tensor, window: torch.Tensor, alpha: float) -> torch.Tensor:
    """E + α·ΔE of one frame, from the layers' own numbers: all x, all y, all z go in, point by point comes out."""
    heard = network.audio_encoder(window[None])[0].double()
    numbers = [expression[k, axis] for axis in range(3) for k in range(len(expression))] + heard.tolist()
    change = network.out_fc.weight.double() @ torch.tensor(numbers, dtype=torch.float64) + network.out_fc.bias
    return torch.stack(
        [expression[k, a] + alpha * change[3 * k + a] for k in range(len(expression)) for a in range(3)]
    ).view(-1, 3)


def test_counts_are_those_of_the_public_weights():
    with torch.device("meta"):
        network = Audio2Exp()
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(counts.values()) == 47_514_646
    assert sum(count for name, count in counts.items() if name.startswith("out_fc")) == 48_150
    assert len(network.state_dict()) == 4 * 6 + 2
    assert tuple(network.out_fc.weight.shape) == (45, 1069)
    assert {name.split(".", 2)[2] for name in counts if name.startswith("audio_encoder.fc1.")} == {
        "projection.weight", "projection.bias", "fc.weight", "fc.bias", "layer_norm.weight", "layer_norm.bias",
    }  # fmt: skip
    with torch.device("meta"):
        live = Audio2Exp(Audio2ExpSize("liveportrait-21"))
    assert tuple(live.out_fc.weight.shape) == (63, 1024 + 63)


def test_untrained_it_changes_nothing():
    network = Audio2Exp(TINY).eval()
    expression = torch.randn(3, 15, 3)
    assert torch.equal(network(expression, torch.randn(3, ROWS, 64), torch.tensor([0.0, 1, 2])), expression)


def test_coordinates_go_in_together_and_points_come_out_together():
    network = filled()
    network.out_fc.weight.zero_()
    network.out_fc.bias.zero_()
    network.out_fc.weight[:, :45] = torch.eye(45)
    expression = torch.arange(45.0).view(1, 15, 3)
    change = network.displacement(expression, torch.zeros(1, 6))
    assert change.flatten()[:6].tolist() == [0, 3, 6, 9, 12, 15]


def test_a_frame_moves_as_its_layers_say():
    network, expression, window = filled(), torch.randn(15, 3), torch.randn(ROWS, 64)
    made = network(expression[None], window[None], torch.tensor([0.6]))[0]
    torch.testing.assert_close(
        made.double(), moved_by_hand(network, expression, window, 0.6).double(), atol=1e-6, rtol=0
    )


def public_file(path, network: Audio2Exp, **outer):
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, **outer}, path)
    return path


def test_the_public_layout_is_read(tmp_path):
    network = filled(replace(TINY, features=32))
    loaded = load_audio2exp(public_file(tmp_path / "lipControlNet.pt", network, global_step=3))
    assert loaded.size == network.size and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    torch.save(network.state_dict(), tmp_path / "bare.pt")
    assert load_audio2exp(tmp_path / "bare.pt").size == network.size


def test_our_file_tells_its_layout(tmp_path):
    network = filled(replace(LIVE, rows=6))
    save_audio2exp(tmp_path / "a.safetensors", network, {"trained on": "GRID"})
    assert load_audio2exp(tmp_path / "a.safetensors").size == network.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("audio_encoder.fc3.fc.bias"), r"does not fit Audio2Exp: it lacks .*fc3\.fc\.bias"),
        (lambda t: t.pop("audio_encoder.fc2.projection.weight"), "incomplete Audio2Exp.*lacks audio_encoder.fc2.proj"),
        (lambda t: (t.pop("out_fc.weight"), t.pop("out_fc.bias")), "lip-sync network.*lipControlNet.pt, which"),
        (lambda t: t.update({"out_fc.weight": torch.zeros(12, 18)}), r"moves 12 numbers.*45 \(face-vid2vid-15\)"),
        (lambda t: t["out_fc.weight"].fill_(torch.nan), "NaN or infinite"),
        (lambda t: t.update({"audio_encoder.fc1.projection.weight": torch.zeros(12, 100)}), "100 numbers of speech"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(change, message, tmp_path):
    tensors = {name: value.clone() for name, value in filled().state_dict().items()}
    change(tensors)
    torch.save(tensors, tmp_path / "x.pt")
    with pytest.raises(InputError, match=f"x.pt.*{message}"):
        load_audio2exp(tmp_path / "x.pt")


def test_a_file_of_another_model_is_named(tmp_path):
    save_file(
        {"out_fn.weight": torch.zeros(1404, 512), "in_fn.weight": torch.zeros(512, 768)}, tmp_path / "m.safetensors"
    )
    with pytest.raises(InputError, match=r"m\.safetensors is no Audio2Exp file.*AniPortrait audio2mesh"):
        load_audio2exp(tmp_path / "m.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="none that is known"):
        load_audio2exp(tmp_path / "w.safetensors")
    path = public_file(tmp_path / "half.pt", filled())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"half\.pt cannot be read"):
        load_audio2exp(path)
    network = filled()
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, tmp_path / "l.safetensors", {"layout": "liveportrait-21"})
    with pytest.raises(InputError, match="says.*liveportrait-21.*45 outputs of face-vid2vid-15"):
        load_audio2exp(tmp_path / "l.safetensors")


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (float("nan"), "alpha must be a number from 0 to 2, not nan"),
        (-0.1, "alpha must lie between 0 and 2"),
        (2.1, "alpha must lie between 0 and 2"),
        ("much", "alpha must be a number"),
        (None, "alpha must be a number"),
        (torch.tensor([0.5, torch.nan]), "NaN"),
        (torch.tensor([0.5, 3.0]), "largest value of the curve of alpha"),
        (torch.zeros(0), "holds no value"),
        ([], "no points"),
        ([(0, 0.5), (2, float("nan"))], "point 2 of the curve of alpha must be two finite numbers"),
        ([(0, 0.5), (2, 0.7), (1, 0.1)], r"point 3 .* at 1 s, .*before point 2 \(2 s\)"),
        ([(-1, 0.5)], "before the clip's beginning"),
        ([(0, 5)], "alpha of point 1"),
        ([0.5, 0.7], "point 1 of the curve of alpha must be two"),
    ],
)  # fmt: skip
def test_a_bad_alpha_is_refused(alpha, message):
    with pytest.raises(InputError, match=message):
        AlphaCurve(alpha)


def test_amounts_over_time():
    fps = Fraction(30000, 1001)
    assert AlphaCurve(0.7).at(5, 3, fps).tolist() == pytest.approx([0.7] * 3)
    assert AlphaCurve(torch.tensor([0.1, 0.2, 0.3])).at(1, 4, fps).tolist() == pytest.approx([0.2, 0.3, 0.3, 0.3])
    made = AlphaCurve([(0.5, 1.0), (1.0, 0.0), (1.0, 2.0)]).at(10, 30, fps)
    times = (np.arange(10, 40) + 0.5) / float(fps)
    expected = np.where(times < 0.5, 1, np.where(times < 1, 2 - 2 * times, 2))
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-6)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return write_tiny_hubert(tmp_path_factory.mktemp("hubert") / "pytorch_model.bin")


@pytest.fixture
def driver(hubert, tmp_path):
    return Audio2ExpDriver.open(public_file(tmp_path / "lipControlNet.pt", filled()), hubert)


def heard(driver: Audio2ExpDriver, frames: int, fps: Fraction, clip: Speech) -> torch.Tensor:
    rows = torch.cat(list(driver.encoder.stream(clip, missing_samples(clip.waveform.numel(), frames, fps))))
    return windows_of(rows, frames, fps)


@pytest.mark.parametrize("fps", [Fraction(12), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_every_frame_is_silent_first_and_then_speaks(driver, fps):
    clip = speech(16_000)
    count = clip.num_frames(fps)
    base = track(count, fps=fps)
    curve = torch.linspace(0, 1.5, count)
    made = list(driver.drive([base.slice(0, 3), base.slice(3, count)], clip, curve, silence=made_silence()))
    assert [len(span) for span in made] == [3, count - 3]
    windows = heard(driver, count, fps, clip)
    quiet = next(driver.encoder.stream(made_silence()))[:ROWS]
    expression = torch.cat([span.expression for span in made])
    for frame in (0, 2, 3, count // 2, count - 1):
        shut = moved_by_hand(driver.network, base.expression[frame], quiet, 1.0).float()
        expected = moved_by_hand(driver.network, shut, windows[frame], float(curve[frame]))
        torch.testing.assert_close(expression[frame].double(), expected.double(), atol=2e-5, rtol=0)
    assert torch.equal(made[0].rotation_deg, base.slice(0, 3).rotation_deg) and made[0].fps == fps


def test_without_a_silent_pass_only_speech_is_added(driver):
    clip, base = speech(16_000), track(25)
    (made,) = driver.drive([base], clip, 0.5, silence_pass=False)
    expected = driver.network(base.expression, heard(driver, 25, Fraction(25), clip), 0.5)
    torch.testing.assert_close(made.expression, expected, atol=2e-5, rtol=0)
    (still,) = driver.drive([base], clip, 0.0, silence_pass=False)
    assert torch.equal(still.expression, base.expression)


def test_alpha_zero_is_silence_whatever_is_said(driver):
    base = track(10)
    silence = Speech(0.001 * torch.randn(16_000, generator=torch.Generator().manual_seed(1)))
    one, other = (
        next(driver.drive([base], Speech(clip), 0.0, silence=silence)).expression
        for clip in (speech(6_400).waveform, torch.sin(torch.arange(6_400) / 9))
    )
    assert torch.equal(one, other)
    assert not torch.equal(one, base.expression)


def test_speech_shorter_than_a_window_drives_its_frame(driver):
    (made,) = driver.drive([track(1)], speech(300), 1.0)
    assert torch.isfinite(made.expression).all()


def test_an_offset_delays_the_mouth(driver):
    clip, base = speech(32_000), replace(track(40), expression=torch.zeros(40, 15, 3))
    plain, late = (next(driver.drive([base], clip, 1.0, audio_offset=n)).expression for n in (0, 4))
    torch.testing.assert_close(late[4:], plain[:-4], atol=2e-5, rtol=0)
    assert not torch.allclose(late[:4], plain[:4])


def test_streaming_pulls_span_by_span(driver):
    pulled = []

    def spans():
        for index in range(5):
            pulled.append(index)
            yield track(10, seed=index)

    stream = driver.drive(spans(), speech(), 0.7)
    assert not pulled
    next(stream)
    assert pulled == [0]


def test_a_renderer_can_be_stopped_while_it_hears(driver, astronaut, monkeypatch):
    monkeypatch.setattr(interrupt, "PERIOD_S", 0.0)  # every part reports, however quick the machine
    model, _ = random_model("face-vid2vid-15")
    renderer = ImplicitRenderer(model, driver=driver)
    told = []

    def stop(done: int, total: int) -> None:
        told.append(done)
        if any(module._forward_hooks for module in driver.encoder.network.encoder.layers):
            raise KeyboardInterrupt

    job = RenderJob.of_track(astronaut, track(8), speech(5_000))
    with pytest.raises(KeyboardInterrupt):
        next(renderer.render(job, Callbacks(stop)))
    assert told and max(told) == 0  # no frame is done


def test_wrong_use_is_refused_before_any_work(driver, hubert, tmp_path):
    for arguments, message in [
        ({"alpha": float("nan")}, "alpha"),
        ({"audio_offset": 0.5}, "whole frames"),
        ({"audio_offset": 10**6}, "the audio offset in frames must lie"),
    ]:
        with pytest.raises(InputError, match=message):
            driver.drive([track(3)], speech(), **arguments)
    with pytest.raises(InputError, match="layout liveportrait-21, but face-vid2vid-15 is needed"):
        next(driver.drive([track(3, "liveportrait-21")], speech()))
    with pytest.raises(InputError, match="from 25 to 30 fps"):
        list(driver.drive([track(3), track(3, fps=Fraction(30))], speech()))
    with pytest.raises(MissingDependency, match=r"lipControlNet\.pt cannot be used yet.*chinese-hubert-large"):
        Audio2ExpDriver.open(tmp_path / "lipControlNet.pt")
    with pytest.raises(MissingDependency, match="holds no speech encoder"):
        Audio2ExpDriver.open(tmp_path / "lipControlNet.pt", tmp_path)
    tensors = {f"wav2vec2.{name}": value for name, value in tiny_hubert().state_dict().items()}
    torch.save(tensors, tmp_path / "w.bin")
    with pytest.raises(InputError, match=r"lipControlNet\.pt hears HuBERT; wav2vec2-64 is another speech encoder"):
        Audio2ExpDriver.open(tmp_path / "lipControlNet.pt", tmp_path / "w.bin")
    wide = public_file(tmp_path / "wide.pt", filled(replace(TINY, features=32)))
    with pytest.raises(InputError, match=r"wide\.pt needs a speech encoder with 32 channels, and hubert-64 has 64"):
        Audio2ExpDriver.open(wide, hubert)
    assert Audio2ExpDriver.open(tmp_path / "lipControlNet.pt", hubert.parent).layout == "face-vid2vid-15"
