"""The ADFD Score node, the command and the batch job give the same digits for the same pair of files."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.batch import jobs
from portraittalk_core.batch.jobs import BatchSettings, JobRunner
from portraittalk_core.batch.manifest import BatchJob
from portraittalk_core.cli import main, score
from portraittalk_core.evaluation.adfd_report import ADFD_METRICS, AdfdReport
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.types import Speech

SECONDS = 1.6


@pytest.fixture(autouse=True)
def block_mesh(monkeypatch):
    """Red blocks are faces."""

    @contextmanager
    def opened(*_args, **_more):
        yield BlockMesh()

    monkeypatch.setattr(score, "open_chosen_mesh", opened)
    monkeypatch.setattr(jobs, "open_mesh", opened)


def write(path, fps: int, late_s: float = 0.0, noise: int = 0):
    """A noisy block that sways and nods, and a sound whose level never repeats itself, both late by some seconds."""
    level = np.random.default_rng(7).uniform(0.05, 1, 400)
    times = np.arange(round(SECONDS * 16_000)) / 16_000 - late_s
    samples = level[(times * 50 + 100).astype(int)] * np.sin(times * 2500) * 0.5
    draw = torch.Generator().manual_seed(noise)
    with VideoWriter(path, 128, 96, Fraction(fps), crf=8, sound=Speech(torch.from_numpy(samples).float())) as writer:
        for k in range(round(SECONDS * fps)):
            t = k / fps - late_s
            picture = torch.full((96, 128, 3), 90)
            left, height = 40 + round(14 * math.sin(7 * t)), 44 + round((9 + noise / 3) * math.sin(11 * t * t))
            picture[20 : 20 + height, left : left + 40] = torch.tensor([220, 20, 20])
            picture += torch.randint(-noise, noise + 1, picture.shape, generator=draw)
            writer.write(picture.clamp(0, 255).to(torch.uint8))
    return path


PAIRS = {
    "equal rates": ({"fps": 25, "noise": 9}, {"fps": 25}, ()),
    "25 and 30 fps": ({"fps": 25, "noise": 9}, {"fps": 30}, ()),
    "30 and 25 fps": ({"fps": 30, "noise": 9}, {"fps": 25}, ()),
    "an offset": ({"fps": 25, "late_s": 0.2, "noise": 9}, {"fps": 25}, ()),
    "an offset taken out": ({"fps": 30, "late_s": 0.2, "noise": 9}, {"fps": 25}, ("--align",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_node_and_command_agree_to_the_digit(pair, tmp_path):
    made, true, words = PAIRS[pair]
    files = write(tmp_path / "made.mp4", **made), write(tmp_path / "true.mp4", **true)
    out = tmp_path / "report.json"
    asked = ["score", "--generated", files[0], "--target", files[1], "--out", out, *words]
    assert main.main([str(word) for word in asked]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    options = EvaluationOptions(num_worst=0, metrics=ADFD_METRICS, align="--align" in words)
    clips = [EvaluationClip.of_file(path) for path in files]
    clips = [replace(clip, pictures=replace(clip.pictures, name="the video")) for clip in clips]  # as the node does
    result = evaluate(*clips, options, mesh=BlockMesh())
    numbers = AdfdReport.of(result).numbers
    names = {"adfd_spatial": "adfd_place", "mouth_landmark_distance": "m_lmd_iod"}
    names |= {"face_landmark_distance": "f_lmd_iod"} | {n: n for n in ("adfd", "adfd_motion", "psnr", "ssim")}
    assert {name: numbers[name] for name in names} == {name: row["values"][metric] for name, metric in names.items()}
    counts = ("num_frames", "num_frames_with_face", "num_identical_frames", "num_frames_left_over", "fps")
    assert {name: numbers[name] for name in counts} == {name: row["counts"][name] for name in counts}
    assert result.offset.seconds == row["offset"]["seconds"]
    assert 0 < numbers["adfd"] < 1
    if "late_s" in made:
        assert result.offset.seconds == pytest.approx(0.2, abs=0.01)


@pytest.mark.slow
def test_batch_job_agrees_with_the_command_to_the_digit(tmp_path):
    files = write(tmp_path / "made.mp4", 25, noise=9), write(tmp_path / "true.mp4", 30)
    out = tmp_path / "report.json"
    asked = ["score", "--generated", files[0], "--target", files[1], "--out", out]
    assert main.main([str(word) for word in asked]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    job = BatchJob(1, "score", "s.json", {"generated": files[0], "target": files[1]}, {})
    with_runner = JobRunner(BatchSettings(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    outcome = with_runner.run(job)
    with_runner.close()
    assert outcome.status == "done", outcome.reason
    found = json.loads((tmp_path / "results" / "s.json").read_text())
    assert found["values"] == row["values"] and found["counts"] == row["counts"]


def test_frames_in_memory_agree_with_themselves_at_another_rate():
    """IMAGE frames of 25 fps doubled to 50 fps show the same at every moment, so ADFD's place and PSNR are perfect."""
    frames = [torch.full((64, 64, 3), 9, dtype=torch.uint8) for _ in range(12)]
    for k, frame in enumerate(frames):
        frame[20:50, 10 + k : 40 + k, 0] = 220
    slow, fast = (
        EvaluationClip(PictureSource.of_frames(name, len(shown), (64, 64), Fraction(fps), shown.__getitem__))
        for name, shown, fps in (("slow", frames, 25), ("fast", [f for f in frames for _ in range(2)], 50))
    )
    values = evaluate(fast, slow, mesh=BlockMesh()).values
    assert (values["adfd_place"], values["psnr"]) == (1.0, math.inf)
    assert evaluate(slow, fast, mesh=BlockMesh()).values["adfd"] == 1.0
