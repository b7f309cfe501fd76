"""Metrics of one video as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from ...metrics.anchors import NEVER_ALONE, anchors_of
from ...metrics.registry import TARGET_PREFIX
from ..result import EvaluationResult
from ..score_report import ScoreReport
from .numbers import ARROWS, number

LEGEND = "↑ higher is better, ↓ lower is better, ≈ as the true video's is best"


def table_text(report: ScoreReport) -> str:
    """All values, then missing metrics with reasons, then notes; one a line.

    Args:
        report: its first result is shown.
    """
    row = report.results[0]
    lines = [*_error(row), *_numbers(report, row), *_missing(report, row), LEGEND, *_anchors(report, row)]
    lines.append(_measured_on(row))
    return "\n".join([*lines, *(f"note: {note}" for note in row.notes)])


def short_text(report: ScoreReport, names: tuple[str, ...]) -> str:
    """Some values in one line, by the metrics' names; missing ones are marked."""
    row = report.results[0]
    parts = []
    for name in names:
        definition = report.table[name]
        available = name in row.values
        value = f"{number(row.values[name], definition)} {definition.unit}".strip() if available else "not available"
        parts.append(f"{definition.title.partition(' (')[0]} {value}")
    return "; ".join([*_error(row), ", ".join(parts)])


def value_of(report: ScoreReport, name: str) -> float:
    """A value of the first result; 0 where it was not measured."""
    return float(report.results[0].values.get(name, 0.0))


def _error(row: EvaluationResult) -> list[str]:
    return [row.error] if row.error else []


def _numbers(report: ScoreReport, row: EvaluationResult) -> Iterator[str]:
    for name, definition in report.table.items():
        target_value = row.values.get(TARGET_PREFIX + name)
        if name not in row.values and target_value is None:
            continue
        arrow = ARROWS[definition.better]
        available = name in row.values
        value = f"{number(row.values[name], definition)} {definition.unit}".strip() if available else "not available"
        target = "" if target_value is None else f" (true video: {number(target_value, definition)})"
        yield f"{definition.title} {arrow}".strip() + f": {value}{target}"


def _missing(report: ScoreReport, row: EvaluationResult) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name in report.unavailable():
        if name in row.missing and name not in row.values:
            reasons.setdefault(row.missing[name], []).append(report.title(name))
    for reason, titles in reasons.items():
        text = reason if reason.startswith("not available") else f"not available: {reason}"
        yield f"{', '.join(titles)}: {text}"


def _anchors(report: ScoreReport, row: EvaluationResult) -> Iterator[str]:
    """What the numbers that mean little by themselves are to be read beside."""
    for name, text in anchors_of(row.values):
        yield f"anchor of {report.table[name].title}: {text}"
    if {"lse_d", "lse_c"} & row.values.keys():
        yield NEVER_ALONE


def _measured_on(row: EvaluationResult) -> str:
    frames, faces = row.counts["num_frames"], row.counts["num_frames_with_face"]
    size = f"{row.counts['width']}×{row.counts['height']}"
    return f"measured on {frames} frames of {size} at {row.fps:g} fps, {faces} of them with a face"
