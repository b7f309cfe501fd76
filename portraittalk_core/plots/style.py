"""Plot of a style: its statistics relative to the built-in engine's, or its latent numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..style.prior import BlendedStyle, Style, StylePrior
from ..style.statistics import to_numbers
from ..types import STYLE_STATISTICS, StyleStatistics
from .curves import COLOURS, GRID, INK, figure_picture, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "opening": "mouth opening",
    "rest_opening": "lips apart at rest",
    "spread": "mouth spreading",
    "rounding": "mouth rounding",
    "smile": "smile at rest",
    "blink_rate": "blinks a minute",
    "blink_s": "length of a blink, s",
    "head_deg": "head turning, degrees",
    "head_hz": "head swings a second",
    "head_shift": "head shifting",
    "brow": "brow movement",
}
MAX_SPREADS = 4.0  # bars are clipped at this many spreads from the engine's own statistics
HEIGHT_IN, TEXT = 7.2, 14  # nodes show it at a third of its size


def plot_style(style: Style) -> Tensor:
    """Plot a style, or both styles of a blend in two colours.

    Args:
        style: with motion statistics these are drawn, in spreads from how the engine in the box speaks; else the
            learnt numbers, in spreads.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    ends = (style.first, style.second) if isinstance(style, BlendedStyle) else (style,)
    figure = new_figure(HEIGHT_IN)
    axes = figure.subplots()
    parts = [end.statistics_part for end in ends]
    if all(part is not None for part in parts):
        for place, (end, part) in enumerate(zip(ends, parts, strict=True)):
            _draw_statistics(axes, end.source, part, place, len(parts))
        _finish(axes)
    else:
        for place, end in enumerate(ends):
            _draw_numbers(axes, end, COLOURS[place])
    if len(ends) > 1:
        axes.legend(fontsize=TEXT, frameon=False, labelcolor=INK, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    title = f"{style.source}   strength {style.strength:g}"
    figure.suptitle(title, x=0.02, ha="left", fontsize=TEXT + 3, color=INK)
    return figure_picture(figure)


def _draw_statistics(axes: Axes, name: str, part: StylePrior, place: int, of: int) -> None:
    default = to_numbers(StyleStatistics())
    spread = part.spread.clamp(min=1e-6)
    standardised = ((part.mean - default) / spread).clamp(-MAX_SPREADS, MAX_SPREADS).numpy()
    deviation = (part.sampling_std / spread).numpy()
    bounds = [MAX_SPREADS + standardised, MAX_SPREADS - standardised]  # so that error bars stay within the axis
    error = np.minimum([deviation, deviation], bounds)
    rows = np.arange(len(STYLE_STATISTICS)) + 0.36 * (place - (of - 1) / 2)
    axes.barh(rows, standardised, height=0.34 if of > 1 else 0.6, color=COLOURS[place], alpha=0.85, label=name)
    axes.errorbar(standardised, rows, xerr=error, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    for row, mean in zip(rows, part.mean.tolist(), strict=True):
        number = f"{round(mean, 1 if abs(mean) >= 10 else 3):g}"
        axes.text(MAX_SPREADS + 0.1, row, number, va="center", fontsize=TEXT - 2 * (of > 1), color=COLOURS[place])


def _finish(axes: Axes) -> None:
    axes.set_yticks(range(len(STYLE_STATISTICS)), [NAMES[name] for name in STYLE_STATISTICS], fontsize=TEXT, color=INK)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, lw=1)
    axes.set_xlim(-MAX_SPREADS - 0.2, MAX_SPREADS + 1.1)
    axes.set_xticks(np.arange(-MAX_SPREADS, MAX_SPREADS + 1, 2))
    axes.set_xlabel("less ← as the engine speaks by itself → more, in spreads between people", color=INK, fontsize=TEXT)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=TEXT, left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_numbers(axes: Axes, prior: StylePrior, colour: str) -> None:
    at, spread = np.arange(len(prior)), prior.spread.clamp(min=1e-6)
    mean, std = ((part / spread).numpy() for part in (prior.mean, prior.sampling_std))
    axes.fill_between(at, mean - std, mean + std, color=colour, alpha=0.25, lw=0)
    axes.plot(at, mean, color=colour, lw=1, label=prior.source)
    axes.set_xlabel("number of the style", color=INK, fontsize=TEXT)
    axes.set_ylabel("mean and deviation, in spreads", color=INK, fontsize=TEXT)
    axes.grid(color=GRID, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=TEXT)
