import json
import logging
import math
from fractions import Fraction

import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.report.text import short_text, table_text, value_of
from portraittalk_core.evaluation.report.write import write_report
from portraittalk_core.evaluation.result import EvaluationResult
from portraittalk_core.evaluation.score_report import ScoreReport
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.plots.comparison import plot_row, worst_pictures

COUNT, FPS = 30, 25
HEIGHT, WIDTH = 96, 128


def clip(noise: int = 0, grey: bool = False, warn: str = "") -> EvaluationClip:
    """A red block, which BlockMesh takes for a face, that moves."""
    draw = torch.Generator().manual_seed(noise)
    frames = []
    for k in range(COUNT):
        picture = torch.full((HEIGHT, WIDTH, 3), 90)
        left = 40 + round(14 * math.sin(0.31 * k))
        if not grey:
            picture[20:64, left : left + 40] = torch.tensor([220, 20, 20])
        picture += torch.randint(-noise, noise + 1, picture.shape, generator=draw)
        frames.append(picture.clamp(0, 255).to(torch.uint8))

    def read(_rate):
        if warn:
            logging.getLogger("portraittalk_core.media").warning(warn)
        return iter(frames)

    return EvaluationClip(PictureSource("clip", WIDTH, HEIGHT, Fraction(FPS), COUNT / FPS, read))


def score(made: EvaluationClip, true: EvaluationClip | None, **options):
    asked = EvaluationOptions(**options)
    return ScoreReport.of_one(evaluate(made, true, asked, mesh=BlockMesh()), asked)


@pytest.mark.slow
def test_a_pair_becomes_a_report_that_holds_settings_and_warnings(tmp_path):
    report = score(clip(9, warn="it breaks off."), clip(), align=True, crop="face")
    assert not report.reference_free
    assert report.settings["aligned"].endswith("taken out")
    assert report.settings["pictures"] == "face crop"
    assert "it breaks off" in report.results[0].notes
    assert list(report.results[0].notes).count("it breaks off") == 1  # read twice, told once
    (page,) = write_report(report, tmp_path / "r.html")
    assert "it breaks off" in page.read_text().lower() or "It breaks off" in page.read_text()
    (numbers,) = write_report(report, tmp_path / "r.json")
    assert json.loads(numbers.read_text())["rows"][0]["values"]["adfd"] == pytest.approx(value_of(report, "adfd"))


def test_a_video_alone_has_no_settings_of_pairs():
    report = score(clip(), None, max_frames=20)
    assert report.reference_free
    assert report.settings == {"face": 0, "at most frames": 20}
    assert report.results[0].counts["num_frames"] == 20
    assert value_of(report, "lse_c") == 0.0  # not available, and said so
    assert "LSE-C: not available" not in short_text(report, ("jitter",))
    assert short_text(report, ("lse_c",)) == "LSE-C not available"


def test_table_tells_every_value_with_the_targets_own_and_what_is_missing():
    report = score(clip(9), clip())
    row, text = report.results[0], table_text(report)
    lines = text.splitlines()
    for name, definition in report.table.items():
        told = [line for line in lines if line.startswith(f"{definition.title} ") or line.startswith(definition.title)]
        assert told or definition.title in text, name
        if name in row.values:
            assert ("(true video: " in told[0]) == (f"target:{name}" in row.values), name
    assert "LPIPS" in next(line for line in lines if "AlexNet (alexnet" in line)
    assert f"measured on {COUNT} frames of {WIDTH}×{HEIGHT} at 25 fps, {COUNT} of them with a face" in lines
    psnr = next(line for line in lines if line.startswith("PSNR"))
    assert psnr == f"PSNR ↑: {row.values['psnr']:.2f} dB"


def test_a_video_without_a_face_is_told_of_at_once():
    report = score(clip(grey=True), clip())
    assert short_text(report, ("adfd", "ssim")).startswith("no face was found in any frame of clip")
    assert "ADFD not available" in short_text(report, ("adfd",))
    assert table_text(report).startswith("no face was found")


@pytest.mark.slow
def test_plot_is_a_picture_of_all_panels():
    pytest.importorskip("matplotlib")
    pair, alone = (plot_row(score(clip(9), true).results[0], "title") for true in (clip(), None))
    for picture in (pair, alone):
        assert picture.dtype == torch.uint8
        assert picture.shape[1:] == (1200, 3)
        assert float(picture.float().std()) > 5
    assert pair.shape[0] > alone.shape[0] > 300  # as many panels as there are curves
    empty = plot_row(EvaluationResult("a", "a", None, error="nothing there"), "title")
    assert int((empty < 128).sum()) > 300  # it says so


def test_worst_frames_show_both_pictures_side_by_side():
    row = score(clip(60), clip()).results[0]
    pictures = worst_pictures(row)
    assert len(pictures) == len(row.worst) > 0
    for picture in pictures:
        assert tuple(picture.shape) == (HEIGHT + 24, 2 * WIDTH + 6, 3)
        made, true = picture[:HEIGHT, :WIDTH].float(), picture[:HEIGHT, -WIDTH:].float()
        corner = made[:15, :15].std(), true[:15, :15].std()
        assert corner[0] > 3 * corner[1] + 3  # the noisy one stands left
    assert worst_pictures(score(clip(), None).results[0]) == []
