"""The benchmark of dubbing runs through on tiny networks, and says what it misses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import dub  # noqa: E402


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "dub", *words])
    return command.main()


def test_every_step_is_measured_and_the_rest_is_told(monkeypatch, capsys):
    monkeypatch.setattr(dub, "_in_child", lambda _, seconds: {60: 400.0, 600: 410.0}[seconds])
    assert run(monkeypatch, "--tiny", "--frames", "2", "--references", "2") == 0
    told = capsys.readouterr().out
    lines = {line.rsplit(maxsplit=2)[0].strip(): line for line in told.splitlines() if line.endswith("%")}
    assert set(lines) == set(dub.STEPS)
    assert sum(int(line.split()[-1].rstrip("%")) for line in lines.values()) == pytest.approx(100, abs=3)
    assert "detection" in told and "warp" in told and "git clone https://github.com/Weizhi-Zhong/IP_LAP" in told
    assert "ok   memory of lengths differs by 10 MB" in told


@pytest.mark.parametrize(
    ("public_s", "levels", "peak", "code"),
    [(9.0, 1, 410.0, 0), (0.0001, 1, 410.0, 1), (9.0, 2, 410.0, 1), (9.0, 1, 900.0, 1)],
)
def test_a_missed_goal_is_the_exit_code(monkeypatch, capsys, public_s, levels, peak, code):
    monkeypatch.setattr(dub, "_in_child", lambda _, seconds: {60: 400.0, 600: peak}[seconds])
    off = [torch.tensor([[[0, levels, 0]]]), *[torch.full((1, 1, 3), 99)] * 2]  # the last two do not count
    monkeypatch.setattr(dub, "measure_public", lambda *_: dub.Compared(public_s, off, {"crops": 0.0}))
    monkeypatch.setattr(dub.Seen, "of", lambda *_: STILL)
    monkeypatch.setattr(dub, "_warp", lambda *_: 1.0)
    monkeypatch.setattr(dub.OurFrames, "__init__", lambda *_: None)
    monkeypatch.setattr(dub.OurFrames, "timed", lambda *_: dict.fromkeys(dub.STEPS, 0.1))
    monkeypatch.setattr(dub, "write_random_lip_files", lambda *_, **__: [Path("x")])
    assert run(monkeypatch, "--repo", "somewhere") == code
    assert ("MISS" in capsys.readouterr().out) == bool(code)


class STILL:  # noqa: N801 - stands for a film that was seen
    class film:  # noqa: N801
        track = (0, 1)

    detection_s = 0.01
