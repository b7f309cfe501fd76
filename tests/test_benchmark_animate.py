"""The animate benchmark runs through on tiny networks, and a goal that is missed is told."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import animate  # noqa: E402

pytest.importorskip("diffusers")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["core", "quality", "memory"])
def test_the_script_runs_on_tiny_networks(part, monkeypatch, capsys):
    arguments = ["animate", "--tiny", "--size", "64", "--frames", "2", "--rounds", "1", "--only", part]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert command.main() == 0
    told = capsys.readouterr().out
    assert {"core": "G4", "quality": "every 2nd step", "memory": "G12"}[part] in told


def given(ms, decode=1.0):
    times = {"plain": [100.0], "everything, keys made in every step": [180.0], "everything, no CFG": [94.0], **ms}
    return {"ms": times, "device": "cpu", "dtype": "fp32", "decode_ms": {"VAE": decode, "TAESD": 0.1}}


@pytest.mark.parametrize(("step", "code"), [(179.0, 0), (181.0, 1)])
def test_a_missed_goal_is_the_exit_code(step, code, monkeypatch, capsys):
    found = given({"everything": [step, 300.0], "everything, ControlNet every 2nd step": [159.0]})
    monkeypatch.setattr(animate, "_child", lambda *_, **__: found)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "animate", "--only", "core", "--frames", "16"])
    assert command.main() == code
    assert ("MISS G1" in capsys.readouterr().out) == bool(code)


def test_memory_that_grows_is_a_missed_goal(monkeypatch):
    def child(kind, args, seconds):
        row = {"frames": 25 * seconds, "peak_before_painting_mb": 1.0, "cpu_s": 1.0, "wall_s": 1.0}
        return {**row, "peak_mb": 500 + seconds}

    monkeypatch.setattr(animate, "_child", child)
    (goal,) = animate._memory(argparse.Namespace(tiny=False))
    assert goal[1:] == (540, animate.GOAL_MORE_MB, False)
