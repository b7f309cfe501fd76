"""Plots of the ordering benchmark: every claiming metric over the kinds of copies, and over growing degradations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portraittalk_core.media.image import save_picture
from portraittalk_core.metrics.registry import METRICS
from portraittalk_core.plots.curves import GRID, INK, figure_picture, new_figure

from .ordering_claims import (
    BLURRED,
    FAULTS,
    KINDS,
    ORIGINAL,
    REENCODED,
    SHIFTED,
    Clip,
    Damage,
    Verdict,
    growing_means,
    shown_value,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLUMNS, PANEL_IN, HEAD_IN = 4, 2.3, 0.9
SOFT, GOOD, BAD, PALE = "#5f6c7b", "#1c6b35", "#b42318", "#b6bfca"
COLOURS = {REENCODED: "#0369a1", BLURRED: "#c2410c", SHIFTED: "#4d7c0f"}
STRENGTHS = ("none", "mild", "middle", "strong")


def save_order(verdicts: Sequence[Verdict], clips: Mapping[str, Clip], damage: Damage, path: Path) -> Path:
    """Plot the means and every clip of the claiming metrics over the four kinds; returns the file."""
    middle = damage.levels // 2
    keys = [(kind, 0 if kind == ORIGINAL else middle) for kind in KINDS]
    claiming = [verdict for verdict in verdicts if verdict.claim.sees]
    figure, panels = _grid(len(claiming))
    for axes, verdict in zip(panels, claiming, strict=False):
        for clip in clips.values():
            values = [_finite(shown_value(clip[key], verdict.metric)) for key in keys]
            axes.plot(values, color=PALE, lw=0.8, marker=".", ms=3, zorder=1)
        for x, kind in enumerate(KINDS):
            claimed = kind == ORIGINAL or kind in verdict.claim.sees
            marker_style = {"color": COLOURS.get(kind, INK)} if claimed else {"mfc": "white", "mec": SOFT}
            axes.plot([x], [_finite(verdict.means[kind])], "o", ms=8, zorder=3, **marker_style)
        _name(axes, verdict, not verdict.broken)
        axes.set_xticks(range(len(KINDS)), KINDS)
        axes.set_xlim(-0.4, len(KINDS) - 0.6)
    damage_text = f"crf {damage.crf[middle]}, blur of {damage.sigma_px[middle]:g} px"
    damage_text += f", {damage.frames[middle]} frames late"
    _head(
        figure,
        f"{counted(len(clips))}, each copy against its original: {damage_text}",
        "dots: means, filled where the metric claims to see the fault, hollow where it does not; grey: single clips; "
        "✓: in order where filled",
    )
    save_picture(figure_picture(figure), path)
    return path


def save_growth(verdicts: Sequence[Verdict], clips: Mapping[str, Clip], damage: Damage, path: Path) -> Path:
    """Plot the claiming metrics' means over growing degradations; returns the file."""
    claiming = [verdict for verdict in verdicts if verdict.claim.sees]
    figure, panels = _grid(len(claiming))
    for axes, verdict in zip(panels, claiming, strict=False):
        for fault in FAULTS:
            means = [_finite(v) for v in growing_means(verdict.metric, list(clips.values()), fault, damage.levels)]
            claimed = fault in verdict.claim.sees
            style = {"lw": 2, "marker": "o", "ms": 5} if claimed else {"lw": 1.2, "ls": ":", "marker": ".", "ms": 4}
            axes.plot(means, color=COLOURS[fault], label=fault, zorder=3 if claimed else 2, **style)
        axes.set_xlim(-0.3, damage.levels + 0.3)
        _name(axes, verdict, all(verdict.grows[fault] for fault in verdict.claim.sees))
        axes.set_xticks(range(damage.levels + 1), STRENGTHS[: damage.levels + 1])
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLOURS[fault], lw=2) for fault in FAULTS]
    names = [f"{fault}: {', '.join(f'{value:g}' for value in damage.strengths(fault))} {unit}" for fault, unit in
             zip(FAULTS, ("(crf)", "px", "frames"), strict=True)]  # fmt: skip
    figure.legend(lines, names, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    _head(
        figure,
        f"{counted(len(clips))}, faults that grow: means",
        "thick where the metric claims to see the fault, dotted where it does not; ✓: every thick line grows worse",
    )
    save_picture(figure_picture(figure), path)
    return path


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    rows = max(1, math.ceil(count / COLUMNS))
    figure = new_figure(HEAD_IN + PANEL_IN * rows)
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.tick_params(labelsize=8, colors=SOFT, length=0)
        axes.grid(axis="y", color=GRID, lw=0.7)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]


def _name(axes: Axes, verdict: Verdict, holds: bool) -> None:
    """Title of a panel: metric, unit, direction, and whether its claim holds."""
    definition = METRICS[verdict.metric]
    if math.isinf(verdict.means[ORIGINAL]):
        axes.annotate("∞", (0, 1), xycoords=("data", "axes fraction"), va="top", ha="center", fontsize=13)
    title = definition.title.partition(" (")[0].replace(", free of resolution", "")
    unit = definition.unit.replace("inter-ocular distance", "eye distance")
    worse = "lower" if definition.better == "higher" else "higher"
    distance = "distance from the true, " * (definition.better == "target")
    axes.set_title(title, fontsize=11, color=INK, loc="left", pad=18, fontweight="bold")
    caption = f"{distance}{unit}{', ' * bool(unit)}{worse} is worse"
    axes.annotate(caption, (0, 1), (0, 6), "axes fraction", "offset points", fontsize=8, color=SOFT)
    mark, colour = ("✓", GOOD) if holds else ("✗", BAD)
    axes.annotate(mark, (1, 1), (0, 18), "axes fraction", "offset points", fontsize=12, color=colour, ha="right")


def _head(figure: Figure, title: str, text: str) -> None:
    figure.suptitle(f"{title}\n\n", x=0.01, ha="left", fontsize=13, color=INK)
    figure.text(0.01, 1 - 0.5 / figure.get_figheight(), text, fontsize=9, color=SOFT, ha="left")


def counted(clips: int) -> str:
    """The number of clips as a text."""
    return f"{clips} clip{'s' * (clips != 1)}"


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan
