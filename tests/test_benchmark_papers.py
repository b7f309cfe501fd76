"""The papers' tables: printed as published, measured on puppet clips in the corpora's own layouts, anchors beside."""

import math
import sys
import wave
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import papers  # noqa: E402
from benchmarks.papers_tables import TABLES  # noqa: E402
from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.evaluation.result import EvaluationResult  # noqa: E402
from portraittalk_core.media.audio import load_speech  # noqa: E402
from portraittalk_core.media.video_read import read_pictures  # noqa: E402
from portraittalk_core.media.video_write import VideoWriter  # noqa: E402
from portraittalk_core.metrics.registry import METRICS  # noqa: E402
from portraittalk_core.renderers.contract import Film  # noqa: E402
from portraittalk_core.types import LandmarkTrack, as_fps  # noqa: E402

FPS, SIDE, FRAMES = as_fps(25), 64, 6
PLACES = {
    "hdtf": ["RD_A_000.mp4", "WDA_B_000.mp4", "WDA_B_001.mp4"],
    "mead": ["M003/video/front/happy/level_1/001.mp4"],
    "lrs2": ["main/Anna/00001.mp4", "main/Bruno/00001.mp4"],
    "lrw": ["ABOUT/train/ABOUT_00001.mp4", "ABOUT/test/ABOUT_00002.mp4"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Puppets of six frames, whose first frame is the brightest, where each corpus has its clips."""
    folder = tmp_path_factory.mktemp("corpora")
    tone = 0.1 * torch.sin(torch.arange(FRAMES * 640) / 9)[None]
    for corpus, names in PLACES.items():
        for name in names:
            path = folder / corpus / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with VideoWriter(path, SIDE, SIDE, FPS, sound=(tone, 16_000), crf=1) as writer:
                for frame in range(FRAMES):
                    writer.write(torch.full((SIDE, SIDE, 3), 200 - 20 * frame, dtype=torch.uint8))
    sound = folder / "mead" / "M003" / "audio" / "happy" / "level_1" / "001.mp4"
    sound.parent.mkdir(parents=True)
    with wave.open(str(sound.with_suffix(".wav")), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes((tone[0] * 32767).short().numpy().tobytes())
    (folder / "lrs2" / "test.txt").write_text("Bruno/00001 NF\n")
    return folder


def test_tables_are_whole_and_their_columns_are_metrics():
    assert {table.corpus for table in TABLES} == set(PLACES)
    for table in TABLES:
        assert all(len(row) == 1 + len(table.columns) for row in table.rows), table
        assert all(column.metric in METRICS for column in papers.columns_of(table) if column.metric), table
        numbers = [float(cell) for row in table.rows for cell in row[1:] if cell != "-"]
        assert all(number > 0 for number in numbers)
    best = {(t.paper, t.corpus): dict((row[0], row[1:]) for row in t.rows) for t in TABLES}  # as the papers print them
    assert best["PortraitTalk", "hdtf"]["PortraitTalk"][:2] == ("27.495", "0.846")
    assert best["SVP", "mead"]["SVP"] == ("235.70", "28.80", "28.87", "0.9126", "4.64", "6.45")
    assert best["ControlTalk", "hdtf"]["ControlTalk"] == ("0.68", "27.37", "0.42", "2.14", "2.93")
    assert best["Lip and identity priors", "lrs2"]["paper"][-1] == "6.97"


def test_lse_is_never_alone():
    for table in TABLES:
        metrics = [column.metric for column in papers.columns_of(table)]
        if {"lse_c", "lse_d"} & set(metrics):
            assert {"mouth_correlation", "sound_mouth_correlation", "identity_to_target"} < set(metrics)


def test_held_out_clips_are_the_corpora_s_own(data):
    def names(corpus, at_most=9):
        return [clip.name for clip in papers.held_out_clips(data, corpus, at_most)]

    assert names("lrw") == ["ABOUT/test/ABOUT_00002.mp4"] and names("lrs2") == ["main/Bruno/00001.mp4"]
    assert names("hdtf") == PLACES["hdtf"][1:] and len(names("hdtf", 1)) == 1  # of two people the last is held out
    (clip,) = papers.held_out_clips(data, "mead", 9)
    # of one person nothing is held out: all clips count
    assert clip.sound.name == "001.wav" and clip.video == data / "mead" / PLACES["mead"][0]
    assert papers.held_out_clips(data / "mead", "hdtf", 9) == []
    with pytest.raises(InputError, match="none where LRW has them"):
        papers.held_out_clips(_renamed(data), "lrw", 9)


def _renamed(data: Path) -> Path:
    (data / "other").mkdir(exist_ok=True)
    if not (data / "other" / "lrw").exists():
        (data / "other" / "lrw").symlink_to(data / "hdtf")
    return data / "other"


@pytest.fixture
def stubs(monkeypatch):
    """Without a face mesh: a film's face, and scores that tell which video was measured."""

    def read_film(video, **_):
        points = 0.3 + 0.4 * torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(1)).repeat(FRAMES, 1, 1)
        points[:, 13, 1], points[:, 14, 1] = 0.5, 0.6
        points[2, 14, 1] = 0.5  # the third frame has closed lips
        return Film(video, LandmarkTrack(points, torch.ones(FRAMES, dtype=torch.bool), FPS, SIDE, SIDE))

    measured = []

    def evaluate_many(samples, options, tools, folder):
        measured.extend((sample.generated.name, tuple(options.metrics)) for sample in samples)
        still = "still" in samples[0].generated.name
        values = {"psnr": math.inf if still else 21.5, "lse_d": 9.0, "target:lse_d": 6.5, "adfd": 0.25}
        return [EvaluationResult(s.name, s.generated.name, s.target.name, values=values) for s in samples]

    monkeypatch.setattr(papers, "read_film", read_film)
    monkeypatch.setattr(papers, "evaluate_many", evaluate_many)
    monkeypatch.setattr(papers, "open_mesh", _Mesh)
    return measured


class _Mesh:
    name = "stub"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_tables_are_printed_with_anchors_and_ours(data, stubs, monkeypatch, tmp_path, capsys):
    made = tmp_path / "made"
    for corpus, names in PLACES.items():
        for name in names:
            path = (made / corpus / name).with_suffix(".mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((data / corpus / name).read_bytes())
    words = ["benchmarks", "papers", "--data", str(data), "--generated", str(made), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert command.main() == 0
    text = capsys.readouterr().out
    for part in ("SVP, table 1, HDTF", "27.495", "102.40", "ours, 2 clips", "real video (anchor), 1 clip", "21.50",
                 "still source", "SVP, table 3: clustering", "python -m benchmarks ablation"):  # fmt: skip
        assert part in text, part
    lines = [line for line in text.splitlines() if "anchor" in line and "real" in line]
    assert any("6.500" in line for line in lines)  # the real video's own LSE-D
    still = tmp_path / "out" / "lrw" / "film" / "still_0000.mp4"
    pictures = torch.stack(list(read_pictures(still))).float()
    assert pictures.shape[0] == FRAMES and float((pictures - 160).abs().mean()) < 4  # the third frame, held
    assert load_speech(still).seconds == pytest.approx(FRAMES / 25, abs=0.05)
    assert all("lse_d" in metrics for name, metrics in stubs if name.startswith("lrw"))


def test_what_is_not_there_is_told(data, stubs, monkeypatch, tmp_path):
    for words, message in (
        (["--data", str(tmp_path)], "holds none of lrs2, lrw, hdtf, mead"),
        (["--data", str(data), "--clips", "0"], "--clips must be at least 1"),
        (["--data", str(data), "--generated", str(tmp_path)], "is not there; generate it"),
    ):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "papers", *words])
        with pytest.raises(SystemExit, match=message):
            command.main()


def test_means_leave_infinite_values_and_failures_out():
    results = [
        EvaluationResult("a", "a", None, values={"psnr": 20.0, "ssim": 1.0}),
        EvaluationResult("b", "b", None, values={"psnr": math.inf, "ssim": 0.5}),
        EvaluationResult("c", "c", None, error="broken", values={"psnr": 1.0}),
    ]
    scores = papers.mean_scores(results)
    assert scores.values == {"psnr": 20.0, "ssim": 0.75} and scores.num_clips == 2
