"""Curves over time as inline SVG charts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .templates import render

WIDTH, HEIGHT = 560, 150  # of one chart, in its own units
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 44, 8, 24, 22
MOST_POINTS = 700  # of a curve; longer ones are drawn as means within bands from least to greatest
COLOURS = ("#c2410c", "#0369a1")
Curve = Sequence[float | None]
Point = tuple[float, float]  # x, y in the chart's units


@dataclass(frozen=True)
class Chart:
    """A chart: curves on one scale."""

    title: str
    unit: str
    curves: Mapping[str, Curve]  # by name, one value a frame, None where it is not known
    marks_s: tuple[float, ...] = ()  # moments to mark
    shade: bool = True  # where the first curve is not known


def draw_chart(chart: Chart, fps: float) -> str:
    """The chart as an SVG element; empty if nothing in it is known."""
    numbers = [v for values in chart.curves.values() for v in values if v is not None]
    if not numbers:
        return ""
    length_s = max(map(len, chart.curves.values())) / fps
    low, high = _range(min(numbers), max(numbers))
    lines = zip(chart.curves.values(), COLOURS, strict=False)
    return render(
        "chart.svg.j2",
        chart=chart,
        width=WIDTH,
        height=HEIGHT,
        left=MARGIN_LEFT,
        right=MARGIN_RIGHT,
        top=MARGIN_TOP,
        bottom=MARGIN_BOTTOM,
        rows=[(_y(value, low, high), f"{value:g}") for value in ticks(low, high, 4)],
        columns=list(_moments(length_s)),
        gaps=list(_gaps(next(iter(chart.curves.values())), fps, length_s)) if chart.shade else (),
        marks=[_x(mark, length_s) for mark in chart.marks_s],
        curves=[(colour, list(_stretches(values, fps, (low, high, length_s)))) for values, colour in lines],
        legend=list(_legend(list(chart.curves))) if len(chart.curves) > 1 else (),
        px="{:.1f}".format,
        points=lambda places: " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
    )


def _range(low: float, high: float) -> tuple[float, float]:
    room = 0.08 * (high - low) or max(abs(high), 1e-3) * 0.02
    return low - room, high + room


def _x(time_s: float, length_s: float) -> float:
    return MARGIN_LEFT + (WIDTH - MARGIN_LEFT - MARGIN_RIGHT) * time_s / max(length_s, 1e-9)


def _y(value: float, low: float, high: float) -> float:
    return MARGIN_TOP + (HEIGHT - MARGIN_TOP - MARGIN_BOTTOM) * (high - value) / (high - low)


def _moments(length_s: float) -> Iterator[tuple[float, str]]:
    """Positions and texts of the time axis' labels."""
    minutes = length_s > 120
    for value in ticks(0, length_s / 60 if minutes else length_s, 6):
        yield _x(value * 60 if minutes else value, length_s), f"{value:g} {'min' if minutes else 's'}"


def ticks(low: float, high: float, about: int) -> list[float]:
    """About `about` round numbers between two limits."""
    raw = max(high - low, 1e-12) / about
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _gaps(values: Curve, fps: float, length_s: float) -> Iterator[tuple[float, float]]:
    """Gaps of the first curve, to be shaded: left edge and width."""
    start = None
    for k, value in enumerate([*values, 0.0]):
        if value is None and start is None:
            start = k
        elif value is not None and start is not None:
            if k - start > 1 or start > 0:  # steps between frames have no value at the first frame
                x = _x(start / fps, length_s)
                yield x, max(_x(k / fps, length_s) - x, 1.0)
            start = None


def _stretches(
    values: Curve, fps: float, scale: tuple[float, float, float]
) -> Iterator[tuple[list[Point], list[Point]]]:
    """Segments without a gap: the line of means, and the outline of the band from minimum to maximum.

    The band is empty where the line holds every frame.
    """
    low, high, length_s = scale
    step = max(1, math.ceil(len(values) / MOST_POINTS))
    mean: list[Point] = []
    upper: list[Point] = []
    lower: list[Point] = []
    for start in range(0, len(values), step):
        numbers = [v for v in values[start : start + step] if v is not None]
        if numbers:
            x = _x((start + step / 2) / fps, length_s)
            mean.append((x, _y(sum(numbers) / len(numbers), low, high)))
            upper.append((x, _y(max(numbers), low, high)))
            lower.append((x, _y(min(numbers), low, high)))
        if mean and (not numbers or start + step >= len(values)):
            yield mean, upper + lower[::-1] if step > 1 else []
            mean, upper, lower = [], [], []


def _legend(names: list[str]) -> Iterator[tuple[int, str, str]]:
    """Left edge, name and colour of each curve, from the right."""
    x = WIDTH - MARGIN_RIGHT
    for name, colour in reversed(list(zip(names, COLOURS, strict=False))):
        x -= 7 * len(name) + 20
        yield x, name, colour
