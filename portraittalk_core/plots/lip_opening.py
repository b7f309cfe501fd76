"""Plot of a mouth's opening: asked against measured, over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..renderers.implicit.lip_opening import LipOpening
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
    draw_curves(over_time, times, {"asked": opening.target, "measured": opening.measured}, UNIT)
    shade_frames(over_time, times, (~opening.detected).numpy())
    finish_rows([over_time], len(opening) / float(opening.fps))
    target, measured = opening.target[opening.detected].numpy(), opening.measured[opening.detected].numpy()
    against.plot(target, measured, "o", ms=2.6, color=COLOURS[1], alpha=0.6)
    slope, offset = opening.line
    if np.isfinite(slope):
        ends = np.array([target.min(), target.max()])
        against.plot(ends, slope * ends + offset, color=COLOURS[0], lw=1.2)
    _finish(against, "asked", "measured")
    figure.suptitle(f"{title}   {_numbers(opening)}".strip(), x=0.02, ha="left", fontsize=12, color=INK)
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
