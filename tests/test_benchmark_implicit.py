"""The benchmarks of implicit keypoints and of GPUs run through on tiny networks, and say what they miss."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import gpu, implicit  # noqa: E402


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    return command.main()


def test_liveportrait_on_a_device_is_measured(monkeypatch, capsys, tmp_path):
    words = ["gpu", "--tiny", "--device", "cpu", "--precision", "fp32", "--rounds", "1", "--batches", "1", "2"]
    out = tmp_path / "table.md"
    assert run(monkeypatch, *words, "--no-compile", "--only", "liveportrait", "--out", str(out)) == 0
    rows = [line.split("|") for line in out.read_text().splitlines() if line.startswith("| batch")]
    assert [row[1].strip() for row in rows] == ["batch 1, not compiled", "batch 2, not compiled"]
    for row in rows:  # frames a second are the inverse of milliseconds a frame
        assert float(row[2]) * float(row[3]) == pytest.approx(1000, rel=0.02)
    assert out.read_text() == capsys.readouterr().out


@pytest.mark.slow
def test_sd15_on_a_device_is_measured(monkeypatch, capsys):
    pytest.importorskip("diffusers")
    words = ["gpu", "--tiny", "--device", "cpu", "--precision", "fp32", "--rounds", "1", "--size", "64"]
    assert run(monkeypatch, *words, "--frames", "2", "--only", "sd15") == 0
    told = capsys.readouterr().out
    assert all(goal in told for goal in ("G6", "G7", "G8", "G9", "G10"))


def test_without_a_gpu_the_script_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device here.*--tiny --device cpu"):
        run(monkeypatch, "gpu")


def test_a_missed_goal_of_a_gpu_is_the_exit_code(monkeypatch, capsys):
    for value, code in ((41.0, 0), (39.0, 1)):
        monkeypatch.setattr(gpu, "sd15", lambda *_, value=value: ([], [("G7 frames a second", value, gpu.GOALS["G7"])]))
        assert run(monkeypatch, "gpu", "--device", "cpu", "--only", "sd15") == code
        assert ("MISS G7" in capsys.readouterr().out) == bool(code)


def test_the_time_that_is_over_leaves_the_rest_out(monkeypatch):
    args = argparse.Namespace(tiny=True, precision="fp32", no_compile=True, batches=[1], rounds=1)
    rows = gpu.liveportrait(args, gpu.Device("cpu"), started=-1e9)
    assert rows[0][0] == "batch 1: left out, the time is over"


def test_packages_stand_in_the_help():
    assert "diffusers" in gpu.PURPOSE and "8 minutes" in gpu.PURPOSE


def test_frames_without_the_public_code_are_measured(monkeypatch, capsys):
    assert run(monkeypatch, "implicit", "--tiny", "--frames", "2", "--rounds", "1", "--seconds") == 0
    told = capsys.readouterr().out
    assert "spade_generator" in told and "ms a frame" in told and "the public code is not measured" in told
    shares = [float(line.split()[-1].rstrip("%")) for line in told.splitlines() if line.startswith("    ")]
    assert sum(shares) == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize(("peaks", "code"), [((500.0, 540.0), 0), ((500.0, 560.0), 1)])
def test_memory_that_grows_is_a_missed_goal(monkeypatch, peaks, code):
    found = dict(zip((60, 600), peaks, strict=True))
    monkeypatch.setattr(implicit, "_in_child", found.__getitem__)
    monkeypatch.setattr(implicit, "measure_speed", lambda _: 0)
    assert run(monkeypatch, "implicit", "--seconds", "60", "600") == code
