"""Plots of a mouth's opening: asked against measured over time, and over gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..renderers.implicit.lip_opening import SHUT, GainSweep, LipOpening
from .curves import COLOURS, GRID, INK, draw_curves, figure_picture, finish_rows, new_figure, shade_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIT = "gap / corner distance"


def plot_opening(opening: LipOpening, title: str = "") -> Tensor:
    """Plot the asked and the measured opening over time, and one against the other.

    Args:
        opening: T frames.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(4.2)
    over_time, against = figure.subplots(1, 2, gridspec_kw={"width_ratios": [2.6, 1]})
    times = np.arange(len(opening)) / float(opening.fps)
    draw_curves(over_time, times, {"asked": opening.asked, "measured": opening.measured}, UNIT)
    shade_frames(over_time, times, (~opening.seen).numpy())
    finish_rows([over_time], len(opening) / float(opening.fps))
    target, measured = opening.asked[opening.seen].numpy(), opening.measured[opening.seen].numpy()
    against.plot(target, measured, "o", ms=2.6, color=COLOURS[1], alpha=0.6)
    slope, offset = opening.line
    if np.isfinite(slope):
        ends = np.array([target.min(), target.max()])
        against.plot(ends, slope * ends + offset, color=COLOURS[0], lw=1.2)
    _finish(against, "asked", "measured")
    figure.suptitle(f"{title}   {_numbers(opening)}".strip(), x=0.02, ha="left", fontsize=12, color=INK)
    return figure_picture(figure)


def plot_gain_sweep(sweep: GainSweep, name: str = "gain", title: str = "") -> Tensor:
    """Plot the mean measured opening over the gain.

    Args:
        sweep: of one motion.
        name: what the gain is called, such as "alpha".
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(3.6)
    axes = figure.subplots(1, 1)
    axes.plot(sweep.gains, sweep.opening, "o-", color=COLOURS[0], lw=1.6)
    axes.axhspan(min(0.0, *axes.get_ylim()), SHUT, color=GRID, lw=0, zorder=0)
    axes.text(sweep.gains[-1], SHUT, "shut", ha="right", va="top", fontsize=8, color=INK)
    _finish(axes, name, f"mean opening, {UNIT}")
    rises = "rises strictly" if sweep.is_strictly_rising else "does not rise strictly"
    figure.suptitle(f"{title}   opening {rises} with {name}".strip(), x=0.02, ha="left", fontsize=12, color=INK)
    return figure_picture(figure)


def _numbers(opening: LipOpening) -> str:
    values = opening.summary()
    names = {"r": "correlation", "slope": "slope", "mean distance": "mean_distance"}
    labelled = ((label, values[name]) for label, name in names.items())
    text = ", ".join(f"{label} {value:.3f}" for label, value in labelled if value is not None)
    return f"{len(opening) / float(opening.fps):.2f} s, {text}"


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    axes.grid(color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
