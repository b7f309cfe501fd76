"""Score report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.anchors import NEVER_ALONE, anchors_of
from ...metrics.registry import METRICS, TARGET_PREFIX, Metric
from ..result import EvaluationResult
from ..score_report import ScoreReport, Summary
from .plots import Chart, draw_chart
from .templates import render

MOST_DETAILS = 24  # rows shown with plots and pictures: the worst of many; pictures of hundreds would not open
KEYS = ("adfd", "m_lmd", "f_lmd", "mouth_correlation", "lse_d", "lse_c", "psnr", "ssim", "lpips", "identity",
        "identity_to_target")  # fmt: skip
OWN_KEYS = ("sound_mouth_correlation", "sound_mouth_lag", "lse_d", "lse_c", "identity", "jitter", "change",
            "blink_rate", "head_std", "head_speed")  # fmt: skip


def to_html(report: ScoreReport) -> str:
    """Render the report as HTML."""
    keys = OWN_KEYS if report.reference_free else KEYS
    worth = [k for k, row in enumerate(report.results) if row.curves or row.worst or row.notes]
    return str(
        render(
            "page.html.j2",
            report=report,
            columns=[(key, report.table[key]) for key in keys if key in report.columns],
            summaries=list(_summaries(report)),
            details=[(k, report.results[k], _charts(report.results[k])) for k in _most_telling(report, worth)],
            num_details=len(worth),
            unavailable=list(_unavailable(report)),
            anchors=[(report.title(name), text) for name, text in anchors_of(report.columns)],
            never_alone=NEVER_ALONE if {"lse_d", "lse_c"} & set(report.columns) else "",
            method=_method(report),
            offset=_offset,
        )
    )


def _summaries(report: ScoreReport) -> Iterator[tuple[Metric, Summary, Summary]]:
    """Summaries of each metric that a row has: of the videos, and of their targets."""
    for name, definition in report.table.items():
        if {name, TARGET_PREFIX + name} & set(report.columns):
            yield definition, report.summary(name), report.summary(TARGET_PREFIX + name)


def _most_telling(report: ScoreReport, worth: list[int]) -> list[int]:
    """Rows shown in detail: all, or the worst of very many."""
    if len(worth) <= MOST_DETAILS:
        return worth
    key = "sound_mouth_correlation" if report.reference_free else "adfd"
    return sorted(sorted(worth, key=lambda k: report.results[k].values.get(key, -1.0))[:MOST_DETAILS])


def _charts(row: EvaluationResult) -> list[str]:
    return [svg for chart in charts_of(row) if (svg := draw_chart(chart, row.fps))]


def _offset(row: EvaluationResult) -> str:
    """The offset as text; empty where it is not known."""
    if row.offset is None or row.offset.seconds is None:
        return ""
    ms = round(row.offset.seconds * 1000)
    return f"{'+' * (ms > 0)}{ms} ms".replace("-", "−")


def charts_of(row: EvaluationResult) -> list[Chart]:
    """The non-empty charts of one row."""
    marks = tuple(frame.time_s for frame in row.worst)
    panels = (
        ("Mouth opening", "of the eye distance",
         {"generated": "mouth opening, generated", "target": "mouth opening, target"}),
        ("Mouth distance", "% of the eye distance", {"": "mouth distance"}),
        ("ADFD, place", "1 = equal", {"": "ADFD place"}),
        ("ADFD, motion", "1 = equal, ½ unrelated", {"": "ADFD motion"}),
        ("PSNR", "dB", {"": "PSNR"}),
        ("SSIM", "1 = equal", {"": "SSIM"}),
        ("Mouth and sound", "standard deviations",
         {"mouth opening": "mouth, standardised", "sound level": "sound, standardised"}),
        ("Eye opening", "height / width", {"": "eye opening"}),
        ("Head speed", "degrees per second", {"": "head speed"}),
        ("Picture change", "levels of 255", {"": "picture change"}),
        ("Identity similarity", "1 = the same", {"": "identity"}),
        ("Identity similarity to the target", "1 = the same", {"": "identity to target"}),
    )  # fmt: skip
    named = {curve for _, _, names in panels for curve in names.values()}
    other_metrics = [m for name, m in METRICS.items() if name in row.values and m.curve and m.curve not in named]
    charts = []
    for title, unit, names in (*panels, *((metric.title, metric.unit, {"": metric.curve}) for metric in other_metrics)):
        curves = {name: row.curves[curve] for name, curve in names.items() if curve in row.curves}
        if curves:
            charts.append(Chart(title, unit, curves, marks, shade=title != "PSNR"))
    return charts


def _unavailable(report: ScoreReport) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Titles of missing metrics, with reasons, and the rows concerned where not all are."""
    for name, reasons in report.unavailable().items():
        rows = [
            (reason, _listed(names) if len(names) < len(report.results) else "") for reason, names in reasons.items()
        ]
        yield report.title(name), rows


def _listed(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _method(report: ScoreReport) -> dict[str, str]:
    sources = sorted({str(row.counts["landmark_source"]) for row in report.results if "landmark_source" in row.counts})
    mesh = f"MediaPipe's mesh of 478 points, back end {', '.join(sources)}" if sources else "–"
    settings = {name.replace("_", " "): str(value) for name, value in report.settings.items()}
    return {"landmarks from": mesh, **settings, **report.environment}
