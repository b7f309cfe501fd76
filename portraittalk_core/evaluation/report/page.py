"""A score report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.registry import MetricDefinition
from ..result import ScoredRow
from ..score_report import ScoreBook, Summary
from ..table import TARGET_PREFIX
from .plots import Chart, draw_chart
from .templates import render

MOST_DETAILS = 24  # rows shown with plots and pictures: the worst of many; pictures of hundreds would not open
KEYS = ("adfd", "m_lmd", "f_lmd", "mouth_correlation", "lse_d", "lse_c", "psnr", "ssim", "lpips", "identity",
        "identity_to_target")  # fmt: skip
OWN_KEYS = ("sound_mouth_correlation", "sound_mouth_lag", "lse_d", "lse_c", "identity", "jitter", "change",
            "blink_rate", "head_std", "head_speed")  # fmt: skip


def to_html(book: ScoreBook) -> str:
    """The page."""
    keys = OWN_KEYS if book.reference_free else KEYS
    worth = [k for k, row in enumerate(book.rows) if row.curves or row.worst or row.notes]
    return str(
        render(
            "page.html.j2",
            book=book,
            columns=[(key, book.table[key]) for key in keys if key in book.columns],
            summaries=list(_summaries(book)),
            details=[(k, book.rows[k], _charts(book.rows[k])) for k in _most_telling(book, worth)],
            num_details=len(worth),
            unavailable=list(_unavailable(book)),
            method=_method(book),
            offset=_offset,
        )
    )


def _summaries(book: ScoreBook) -> Iterator[tuple[MetricDefinition, Summary, Summary]]:
    """Of the metrics that some row has: the videos', and the true videos' own."""
    for name, definition in book.table.items():
        if {name, TARGET_PREFIX + name} & set(book.columns):
            yield definition, book.summary(name), book.summary(TARGET_PREFIX + name)


def _most_telling(book: ScoreBook, worth: list[int]) -> list[int]:
    """Which of the rows worth showing are shown: all, or the worst of very many."""
    if len(worth) <= MOST_DETAILS:
        return worth
    key = "sound_mouth_correlation" if book.reference_free else "adfd"
    return sorted(sorted(worth, key=lambda k: book.rows[k].values.get(key, -1.0))[:MOST_DETAILS])


def _charts(row: ScoredRow) -> list[str]:
    return [drawn for chart in charts_of(row) if (drawn := draw_chart(chart, row.fps))]


def _offset(row: ScoredRow) -> str:
    """How much later the generated video is; empty where that is not known."""
    if row.offset is None or row.offset.seconds is None:
        return ""
    ms = round(row.offset.seconds * 1000)
    return f"{'+' * (ms > 0)}{ms} ms".replace("-", "−")


def charts_of(row: ScoredRow) -> list[Chart]:
    """The panels of one row, those of which something is known."""
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
    made = []
    for title, unit, names in panels:
        curves = {name: row.curves[curve] for name, curve in names.items() if curve in row.curves}
        if curves:
            made.append(Chart(title, unit, curves, marks, shade=title != "PSNR"))
    return made


def _unavailable(book: ScoreBook) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Titles of metrics that rows lack, with reasons, and the names of the rows where those are not all."""
    for name, reasons in book.unavailable().items():
        rows = [(reason, _listed(names) if len(names) < len(book.rows) else "") for reason, names in reasons.items()]
        yield book.title(name), rows


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _method(book: ScoreBook) -> dict[str, str]:
    sources = sorted({str(row.counts["landmark_source"]) for row in book.rows if "landmark_source" in row.counts})
    mesh = f"MediaPipe's mesh of 478 points, back end {', '.join(sources)}" if sources else "–"
    settings = {name.replace("_", " "): str(value) for name, value in book.settings.items()}
    return {"landmarks from": mesh, **settings, **book.environment}
