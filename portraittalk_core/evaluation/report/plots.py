"""Curves over time as inline SVG, for reports that open without anything else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 150  # of one chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 24, 22
MOST_POINTS = 700  # of a curve; longer ones are drawn as means within bands from least to greatest
COLOURS = ("#c2410c", "#0369a1")
Curve = Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """One panel: some curves on one scale."""

    title: str
    unit: str
    curves: Mapping[str, Curve]  # by name, one value a frame, None where it is not known
    marks_s: tuple[float, ...] = ()  # moments to mark
    shade: bool = True  # where the first curve is not known


def draw_chart(chart: Chart, fps: float) -> str:
    """The chart as an SVG element; empty if nothing in it is known."""
    known = [v for values in chart.curves.values() for v in values if v is not None]
    if not known:
        return ""
    length_s = max(map(len, chart.curves.values())) / fps
    low, high = _range(min(known), max(known))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}" class="chart">',
        f'<text x="{LEFT}" y="13" class="t">{escape(chart.title)}<tspan class="u"> {escape(chart.unit)}</tspan></text>',
        *_grid(low, high, length_s),
        *(_gaps(next(iter(chart.curves.values())), fps, length_s) if chart.shade else []),
    ]
    for mark in chart.marks_s:
        x = _x(mark, length_s)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="m"/>')
    for values, colour in zip(chart.curves.values(), COLOURS, strict=False):
        parts += _curve(values, colour, fps, (low, high, length_s))
    if len(chart.curves) > 1:
        parts += _legend(list(chart.curves))
    return "".join([*parts, "</svg>"])


def _range(low: float, high: float) -> tuple[float, float]:
    room = 0.08 * (high - low) or max(abs(high), 1e-3) * 0.02
    return low - room, high + room


def _x(time_s: float, length_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * time_s / max(length_s, 1e-9)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _grid(low: float, high: float, length_s: float) -> list[str]:
    parts = []
    for value in ticks(low, high, 4):
        y = _y(value, low, high)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" class="a" text-anchor="end">{value:g}</text>')
    minutes = length_s > 120
    for value in ticks(0, length_s / 60 if minutes else length_s, 6):
        x = _x(value * 60 if minutes else value, length_s)
        unit = " min" if minutes else " s"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 7}" class="a" text-anchor="middle">{value:g}{unit}</text>')
    return parts


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two others, about so many."""
    raw = max(high - low, 1e-12) / about
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _gaps(values: Curve, fps: float, length_s: float) -> list[str]:
    """Where the first curve is not known, shaded."""
    parts, start = [], None
    for k, value in enumerate([*values, 0.0]):
        if value is None and start is None:
            start = k
        elif value is not None and start is not None:
            if k - start > 1 or start > 0:  # steps between frames have no value at the first frame
                x = _x(start / fps, length_s)
                width = max(_x(k / fps, length_s) - x, 1.0)
                box = f'x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
                parts.append(f'<rect {box} class="n"/>')
            start = None
    return parts


def _curve(values: Curve, colour: str, fps: float, scale: tuple[float, float, float]) -> list[str]:
    low, high, length_s = scale
    step = max(1, math.ceil(len(values) / MOST_POINTS))
    mean, band, parts = [], [], []
    for start in range(0, len(values), step):
        seen = [v for v in values[start : start + step] if v is not None]
        if seen:
            x = _x((start + step / 2) / fps, length_s)
            mean.append((x, _y(sum(seen) / len(seen), low, high)))
            band.append((x, _y(max(seen), low, high), _y(min(seen), low, high)))
        if mean and (not seen or start + step >= len(values)):
            parts += _stretch(mean, band if step > 1 else [], colour)
            mean, band = [], []
    return parts


def _stretch(mean: list[tuple[float, float]], band: list[tuple[float, float, float]], colour: str) -> list[str]:
    parts = []
    if band:
        edge = [(x, upper) for x, upper, _ in band] + [(x, lower) for x, _, lower in reversed(band)]
        parts.append(f'<polygon points="{_points(edge)}" fill="{colour}" opacity=".2"/>')
    if len(mean) == 1:
        return [*parts, f'<circle cx="{mean[0][0]:.1f}" cy="{mean[0][1]:.1f}" r="1.6" fill="{colour}"/>']
    return [*parts, f'<polyline points="{_points(mean)}" fill="none" stroke="{colour}" stroke-width="1.4"/>']


def _points(places: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _legend(names: list[str]) -> list[str]:
    parts, x = [], WIDTH - RIGHT
    for name, colour in reversed(list(zip(names, COLOURS, strict=False))):
        x -= 7.0 * len(name) + 20
        parts.append(f'<line x1="{x:.0f}" x2="{x + 14:.0f}" y1="9.5" y2="9.5" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<text x="{x + 18:.0f}" y="13" class="a">{escape(name)}</text>')
    return parts
