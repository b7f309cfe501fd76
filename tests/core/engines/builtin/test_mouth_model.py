from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.engines.builtin import closure_net
from portraittalk_core.engines.builtin.mouth_model import (
    PRESSED,
    LiveMouth,
    load_closures,
    load_mouth,
    run_mouth,
    save_closures,
    save_mouth,
)
from portraittalk_core.engines.builtin.mouth_net import (
    AHEAD_FRAMES,
    BEHIND_FRAMES,
    LOOK_AHEAD_FRAMES,
    TRACTS,
    MouthNet,
    measure_mel,
    vocal_tracts,
    warp_bands,
)
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.media.audio import load_speech
from portraittalk_core.speech.mel import log_mel

SAMPLE = Path(__file__).parents[4] / "samples" / "speech.wav"


@pytest.fixture(scope="module")
def net() -> MouthNet:
    torch.manual_seed(0)
    return MouthNet(8).eval().requires_grad_(False)


def closed(outputs, mel):
    """Outputs with the closures of the network in the box."""
    return closure_net.with_closures(outputs, *(part[0] for part in load_closures().closing(mel)), PRESSED)


def test_blocks_give_what_the_whole_clip_gives(net):
    mel = torch.randn(3171, 80) * 10 - 40
    statistics = measure_mel(mel)
    heard = statistics.normalise(mel)
    whole = closed(net(vocal_tracts(heard)).mean(0), heard[None])
    for size in (250, 97, 4000):
        torch.testing.assert_close(run_mouth(net, mel.split(size), statistics), whole, rtol=0, atol=1e-5)


def test_answers_reach_no_further_than_said(net):
    mel = torch.randn(1, 800, 80)
    changed = mel.clone()
    changed[:, 400] += 5
    assert closure_net.AHEAD_FRAMES <= LOOK_AHEAD_FRAMES
    closing = lambda frames: torch.stack(load_closures().closing(frames), -1).detach()  # noqa: E731
    answers = (closing, BEHIND_FRAMES, closure_net.AHEAD_FRAMES)
    for answer, behind, ahead in (
        answers,
        (net, BEHIND_FRAMES, AHEAD_FRAMES),
        (net.live, BEHIND_FRAMES, LOOK_AHEAD_FRAMES),
    ):
        differs = (answer(changed) - answer(mel)).abs().amax((0, 2)).nonzero().flatten() * 2
        assert 400 - ahead <= differs.min() <= 400 - ahead + 4
        assert differs.max() <= 400 + behind


def test_bands_move_as_a_shorter_or_longer_vocal_tract_moves_them():
    mel = torch.randn(3, 80)
    for factor in TRACTS:
        expected = [np.interp(np.arange(80) / factor, np.arange(80), row) for row in mel.numpy()]
        np.testing.assert_allclose(warp_bands(mel, factor), expected, atol=1e-4)
    peak = torch.zeros(1, 80)
    peak[0, 40] = 1
    assert [int(part.argmax()) for part in vocal_tracts(peak)[:, 0]] == [34, 38, 42, 47]
    assert sum(TRACTS) / len(TRACTS) == pytest.approx(1, abs=0.02)


def test_loudness_does_not_show_in_what_the_network_hears():
    mel = log_mel(load_speech(SAMPLE))
    quiet = mel - 20
    torch.testing.assert_close(
        measure_mel(quiet).normalise(quiet), measure_mel(mel).normalise(mel), rtol=0, atol=1e-4
    )  # fmt: skip


@pytest.mark.parametrize("piece", [160, 1000, 16000])
def test_live_answers_do_not_depend_on_the_pieces_and_come_in_time(net, piece):
    waveform = load_speech(SAMPLE).waveform[: 4 * 16000]
    live, heard, said = LiveMouth(net), 0, []
    for part in waveform.split(piece):
        heard += len(part)
        said.append(live.push(part))
        late_s = heard / 16000 - sum(map(len, said)) / 50
        assert late_s <= live.latency_s + 1e-6
    assert LiveMouth.latency_s <= 0.2
    assert torch.isfinite(torch.cat(said)).all()


def test_live_answers_are_those_of_the_network_with_the_same_statistics(net):
    waveform = load_speech(SAMPLE).waveform[: 3 * 16000]
    live = LiveMouth(net)
    said = live.push(waveform)
    mel = log_mel(load_speech(SAMPLE))[: 3 * 100 - 1]
    heard = live._statistics.normalise(mel)
    expected = closed(net.live(vocal_tracts(heard)).mean(0), heard[None])
    torch.testing.assert_close(said[5:], expected[5 : len(said)], rtol=0, atol=1e-3)


def test_lips_press_where_it_is_probable_and_the_mouth_is_not_wide_open():
    outputs = torch.zeros(5, 8)
    outputs[3, 0] = 1.0  # wide open
    outputs[4, 6] = 0.9  # pressed already
    probable = torch.tensor([0.0, sum(closure_net.MEETING) / 2, 1.0, 1.0, 0.0])
    result = closure_net.with_closures(outputs, probable, torch.zeros(5), PRESSED)
    torch.testing.assert_close(result[:, 6], torch.tensor([0.15, sum(PRESSED) / 2, 0.5, 0.15, 0.9]))
    assert (result[:, :6] == outputs[:, :6]).all() and (result[:, 7] == outputs[:, 7]).all()


def test_a_sure_tuck_shows_the_teeth_and_an_unsure_one_leaves_lips_as_they_are():
    outputs = torch.tensor([0.8, 0.7, 0.1, 0.0, 0.2, 0.0, 0.4, 1.0]).repeat(4, 1)  # open, and pressing a little
    tucked = torch.tensor([0.0, sum(closure_net.TUCKING) / 2, 1.0, 1.0])
    closed = torch.tensor([0.0, 0.0, 0.0, 1.0])  # in the end it may as well be a closure
    result = closure_net.with_closures(outputs, closed, tucked, PRESSED)
    torch.testing.assert_close(result[:, 5], torch.tensor([0.0, 0.5, 1.0, 1.0]))
    torch.testing.assert_close(result[:, 0], torch.tensor([0.8, 0.8, closure_net.TUCKED_OPENING, 0.8]))
    torch.testing.assert_close(result[:, 6], torch.tensor([0.4, 0.4, PRESSED[0], 0.4]))
    torch.testing.assert_close(result[:, 4], torch.tensor([0.2, 0.2, closure_net.TUCKED_RAISE, 0.2]))
    unchanged = [1, 2, 3, 7]
    assert (result[:, unchanged] == outputs[:, unchanged]).all()


def test_network_survives_its_file(net, tmp_path):
    save_mouth(net, tmp_path / "a.safetensors", {"data": "none"})
    loaded = load_mouth(tmp_path / "a.safetensors")
    mel = torch.randn(1, 100, 80)
    torch.testing.assert_close(loaded(mel), net(mel), rtol=0, atol=0.02)  # half precision


@pytest.fixture
def closures() -> closure_net.ClosureNet:
    """A closure network that hears closed lips everywhere."""
    net = closure_net.ClosureNet(8).eval().requires_grad_(False)
    net.leave.weight.zero_()
    net.leave.bias.copy_(torch.eye(len(closure_net.CLASSES))[closure_net.STOP] * 20)
    return net


def test_a_file_of_closures_goes_with_the_network_in_the_box(closures, tmp_path):
    save_closures(closures, tmp_path / "c.safetensors", {})
    mel = torch.randn(200, 80) * 10 - 40
    statistics = measure_mel(mel)
    ours, other = (run_mouth(load_mouth(path), [mel], statistics) for path in (None, tmp_path / "c.safetensors"))
    torch.testing.assert_close(other[:, 0], ours[:, 0])  # the same opening
    narrow = ours[:, 0] < 0.1
    assert narrow.any() and (other[narrow, 6] >= PRESSED[1] - 1e-3).all()  # and lips that meet wherever they may
    assert load_mouth().closures is None  # what is in the box stays as it is


def test_a_mouth_network_keeps_closures_of_its_own_in_its_file(closures, tmp_path):
    net = MouthNet(8, closures).eval()
    save_mouth(net, tmp_path / "both.safetensors", {})
    loaded, mel = load_mouth(tmp_path / "both.safetensors"), torch.randn(1, 100, 80)
    torch.testing.assert_close(loaded(mel), net(mel), rtol=0, atol=0.02)  # half precision
    assert float(loaded.closures.closing(mel)[0].min()) > 0.99
    said = LiveMouth(loaded).push(torch.randn(32_000) * 0.1)
    assert (said[:, 6] >= torch.where(said[:, 0] <= 0, PRESSED[1] - 1e-3, PRESSED[0])).all()


def test_files_of_other_kinds_are_refused(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors"):
        load_mouth(tmp_path / "other.safetensors")
    with pytest.raises(MissingDependency, match="absent"):
        load_mouth(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"width": 1e309}',
        '{"width": -1}',
        '{"width": 1000000000}',
        '{"width": "x"}',
    ],
    ids=lambda text: str(text)[:12],
)
def test_a_configuration_that_is_none_is_told(net, config, tmp_path):
    metadata = {"kind": "portraittalk mouth network"} | ({} if config is None else {"config": config})
    save_file(net.state_dict(), tmp_path / "m.safetensors", metadata)
    with pytest.raises(InputError, match=r"in m\.safetensors"):
        load_mouth(tmp_path / "m.safetensors")
