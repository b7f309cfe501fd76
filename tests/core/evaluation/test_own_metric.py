"""A metric of somebody else's: this file is all that it costs, and it is in every report."""

import csv
import json
import math
from fractions import Fraction

import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.errors import InputError
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.report.write import write_report
from portraittalk_core.evaluation.score_report import ScoreReport
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.metrics import registry
from portraittalk_core.metrics.meter import FRAME_PAIRS, LANDMARKS, frame_mean
from portraittalk_core.metrics.registry import METRICS, Metric

FRAMES = [torch.full((64, 64, 3), 40 + k, dtype=torch.uint8) for k in range(6)]
for frame in FRAMES:
    frame[20:50, 20:50] = torch.tensor([220, 20, 20], dtype=torch.uint8)  # a face to BlockMesh


def green_difference(generated: torch.Tensor, target: torch.Tensor) -> float:
    return float((generated[..., 1].double() - target[..., 1].double()).abs().mean())


class ValidShare:
    """Of one video; a meter may be any class with these three methods."""

    def __init__(self, _context):
        self.seen = []

    def update(self, track):
        self.seen.append(track.valid)

    def result(self):
        return float(torch.cat(self.seen).double().mean())

    def curves(self):
        return {}


GREEN = Metric(
    "green", "Green difference", "levels", "lower", "0..255", "Mean absolute difference of the green channel.",
    "a test", inputs=FRAME_PAIRS, meter=frame_mean(green_difference), curve="green difference",
)  # fmt: skip
SHARE = Metric(
    "share", "Share of frames with a face", "", "target", "0..1", "Frames with a face over all.", "a test", (),
    LANDMARKS, ValidShare,
)  # fmt: skip


@pytest.fixture
def own_metrics():
    for metric in (GREEN, SHARE):
        registry.register(metric)
    yield
    for metric in (GREEN, SHARE):
        del METRICS[metric.name]


def clip(brighter: int = 0) -> EvaluationClip:
    frames = [frame.clone() for frame in FRAMES]
    for frame in frames:
        frame[:10, :, 1] += brighter
    return EvaluationClip(PictureSource.of_frames("clip", 6, (64, 64), Fraction(25), frames.__getitem__))


def report(made: EvaluationClip, true: EvaluationClip | None, **options) -> ScoreReport:
    asked = EvaluationOptions(**options)
    return ScoreReport.of_one(evaluate(made, true, asked, mesh=BlockMesh()), asked)


@pytest.mark.usefixtures("own_metrics")
def test_own_metrics_are_in_json_csv_and_html(tmp_path):
    write_report(report(clip(64), clip()), tmp_path)
    read = json.loads((tmp_path / "report.json").read_text())
    expected = 64 * 10 / 64
    assert read["rows"][0]["values"]["green"] == pytest.approx(expected)
    assert read["rows"][0]["values"]["share"] == read["rows"][0]["values"]["target:share"] == 1.0
    assert read["summary"]["green"]["mean"] == pytest.approx(expected)
    assert read["definitions"]["green"]["text"] == GREEN.text and read["definitions"]["green"]["needs"]
    (line,) = csv.DictReader((tmp_path / "report.csv").read_text("utf-8-sig").splitlines())
    assert float(line["green"]) == pytest.approx(expected) and float(line["target:share"]) == 1.0
    page = (tmp_path / "report.html").read_text()
    assert page.count(GREEN.title) >= 3  # summary, chart, definition
    assert GREEN.text in page and SHARE.title in page


@pytest.mark.usefixtures("own_metrics")
def test_own_metrics_can_be_asked_for_alone_and_need_what_they_say():
    assert set(report(clip(64), clip(), metrics=("green",)).results[0].values) == {"green"}
    alone = report(clip(), None).results[0].values
    assert alone["share"] == 1.0 and "green" not in alone


def test_a_metric_is_registered_once_and_must_be_measurable(own_metrics):
    with pytest.raises(InputError, match="there is a metric named green"):
        registry.register(GREEN)
    with pytest.raises(InputError, match="both the inputs and the meter"):
        Metric("x", "X", "", "higher", "0..1", "text", "source", inputs=FRAME_PAIRS)
    with pytest.raises(InputError, match="must need the true video"):
        Metric("x", "X", "", "higher", "0..1", "text", "source", (), FRAME_PAIRS, frame_mean(math.dist))
    with pytest.raises(InputError, match="no metric luck of videos; the metrics are adfd, "):
        report(clip(), clip(), metrics=("luck",))


def test_without_them_nothing_is_left_behind():
    assert "green" not in report(clip(), clip()).results[0].values
