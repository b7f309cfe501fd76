"""The benchmark of the lip renderer runs through on few drawn people, and its measures are right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import lips  # noqa: E402
from benchmarks.lips_puppet import SIDE, Person, draw_person, mouth_extent, person_clip  # noqa: E402


def test_parts_of_the_lip_renderer_are_measured(monkeypatch, capsys, tmp_path):
    pytest.importorskip("accelerate")
    pytest.importorskip("kornia")
    for name, value in (
        ("PEOPLE", 1),
        ("NEW_PEOPLE", 1),
        ("LENGTH", 24),
        ("NEW_LENGTH", 24),
        ("FACES", (1, 2)),
        ("LIPS", (1,)),
    ):
        monkeypatch.setattr(lips, name, value)
    words = ["lips", "--steps", "2", "--batch", "2", "--cost", "tiny", "--only", "full", "no sound"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words, "--out", str(tmp_path)])
    assert command.main() in (0, 1)  # two steps teach nothing
    told = capsys.readouterr().out
    titles = ("parts of the network", "number of references", "number of lip references", "cost of references")
    assert all(title in told for title in titles)
    assert "our warp of one frame" in told and "full over no sound" in told
    from PIL import Image

    assert Image.open(tmp_path / "lips_sheet.png").size == (3 * 32, 4 * 32)  # true, two networks, the warp


def test_the_full_network_has_to_win(capsys):
    scores = {"full": lips.Score(30.0, 25.0, 0.9, 1.0), "unwarped mean": lips.Score(29.0, 26.0, 0.9, 1.5)}
    assert lips.verdict(scores) == 0
    assert lips.verdict({**scores, "no sound": lips.Score(29.0, 25.5, 0.9, 1.0)}) == 1  # sound acts at the mouth
    told = capsys.readouterr().out
    assert "ok   full over unwarped mean: +1.00 dB of the lower half" in told
    assert "MISS full over no sound: -0.50 dB at the mouth" in told
    del scores["full"]
    assert lips.verdict(scores) == 0


def test_mouth_is_measured_where_it_is_drawn():
    """An ellipse of uniform weight has half its radius as deviation, so twice that are its ends."""
    person, still = Person.of(3), torch.zeros(4)
    open_wide = torch.tensor([0.05, 0.0, 0.0, 1.0])
    crops = torch.stack([draw_person(person, move, 0.0) for move in (still, open_wide)])
    masks = torch.zeros(2, SIDE, SIDE)  # around the mouth, where beside it there is skin alone
    for mask, bottom in zip(masks, (64, 70), strict=True):
        mask[SIDE * 56 // 100 : SIDE * bottom // 100, SIDE * 40 // 100 : SIDE * 65 // 100] = 1
    shut, wide = mouth_extent(person, crops, masks)
    assert float(wide[0, 0] - shut[0, 0]) == pytest.approx(0.05 * SIDE, abs=1.0)  # the head moved to the right
    for ends, opening in ((shut, 0.0), (wide, 0.35)):
        assert float(ends[1, 0] - ends[0, 0]) == pytest.approx(2 * 0.4 * 0.17 * SIDE, rel=0.3)
        assert float(ends[3, 1] - ends[2, 1]) == pytest.approx((0.2 + opening) * 0.17 * SIDE, rel=0.45)
    assert float(wide[3, 1] - wide[2, 1]) > 1.7 * float(shut[3, 1] - shut[2, 1])


def test_only_the_sound_tells_whether_teeth_show():
    video, speech, person = person_clip(0, 60)
    spectrum = torch.fft.rfft(speech.waveform.view(60, -1), dim=1).abs()
    is_high = spectrum[:, 40:].sum(1) > spectrum[:, :40].sum(1)  # above 1000 Hz
    from toy_puppet import motion

    moves = motion(60, 0)
    for frame in range(60):
        expected = draw_person(person, moves[frame], float(is_high[frame]))
        assert torch.allclose((video.read(frame) + 1) / 2, expected, atol=1e-5)
    assert 0 < int(is_high.sum()) < 60
