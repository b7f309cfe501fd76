"""Figures and curves over time that all plots share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingDependency
from ..types import KeypointTrack, LandmarkTrack, Speech

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, DPI = 12.0, 100
MOST_POINTS = 1500  # per curve; longer ones are drawn as a mean and the span between least and greatest values
BUCKETS = 500  # of longer ones
LONG_S = 100  # from here on the time axis counts minutes
INK, GRID, WAVE, NO_FACE = "#1f2933", "#dfe3e8", "#c9d3dd", "#fdf1b8"
COLOURS = ("#c2410c", "#0369a1", "#4d7c0f")


def new_figure(height_in: float, layout: str | None = "constrained") -> Figure:
    """An empty figure of the plots' common width, rendered without a display.

    Args:
        height_in: inches.
        layout: matplotlib's layout engine; None where the axes have fixed places, which takes half the time.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib; pip install matplotlib.") from error
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)  # draws without a screen, and without matplotlib's global state
    return figure


def figure_picture(figure: Figure) -> Tensor:
    """(H, W, 3) uint8 picture of a figure."""
    figure.canvas.draw()
    return torch.from_numpy(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def summary(track: LandmarkTrack | KeypointTrack, title: str) -> str:
    """The title of a track's plot, with its length and how many frames hold no face."""
    num_missing = int((~track.valid).sum())
    missing = "" if not num_missing else f", face not seen in {num_missing}"
    length = f"{track.seconds:.2f} s, {len(track)} frames at {float(track.fps):g} fps{missing}"
    return f"{title}   {length}" if title else length


def draw_curves(
    axes: Axes, times: np.ndarray, curves: dict[str, Tensor], unit: str, colours: tuple[str, ...] = COLOURS
) -> None:
    """Draw named curves (T,) over `times` in seconds; long ones as a mean and the span of their values."""
    for (name, values), colour in zip(curves.items(), colours, strict=False):
        numbers = values.numpy()
        if len(numbers) <= MOST_POINTS:
            dot = "o" if len(numbers) == 1 else None
            axes.plot(times, numbers, color=colour, lw=1.4, label=name, marker=dot)
            continue
        starts = np.linspace(0, len(numbers), BUCKETS + 1).astype(int)[:-1]
        low, high = np.fmin.reduceat(numbers, starts), np.fmax.reduceat(numbers, starts)
        counts = np.add.reduceat((~np.isnan(numbers)).astype(float), starts)
        mean = np.add.reduceat(np.nan_to_num(numbers), starts) / np.where(counts > 0, counts, np.nan)
        axes.fill_between(times[starts], low, high, color=colour, lw=0, alpha=0.22)
        axes.plot(times[starts], mean, color=colour, lw=1.1, label=name)
    axes.set_ylabel(unit, color=INK, fontsize=8)
    axes.margins(y=0.12)


def finish_rows(rows: Iterable[Axes], end_s: float) -> None:
    """Give all rows one time axis, and legends above the curves."""
    rows = list(rows)
    for axes in rows:
        axes.set_xlim(0, end_s)
        axes.set_axisbelow(True)
        axes.grid(color=GRID, lw=0.6)
        axes.tick_params(labelsize=8, colors=INK, labelbottom=axes is rows[-1])
        axes.spines[["top", "right"]].set_visible(False)
        place = {"loc": "lower left", "bbox_to_anchor": (-0.006, 0.97), "borderaxespad": 0.2}
        axes.legend(**place, fontsize=8.5, ncols=4, frameon=False, labelcolor=INK, handlelength=1.4)
    rows[-1].set_xlabel("minutes" if end_s > LONG_S else "seconds", color=INK, fontsize=9)
    if end_s > LONG_S:
        step = 60 * max(1, round(end_s / 60 / 10))
        ticks = np.arange(0, end_s + 1e-6, step if end_s > 300 else 30)
        for axes in rows:
            axes.set_xticks(ticks, [f"{tick / 60:g}" for tick in ticks])


def draw_wave(axes: Axes, speech: Speech) -> None:
    """Draw the waveform of a speech behind the curves."""
    samples = speech.waveform.numpy()
    edges = np.linspace(0, len(samples), 1500).astype(int)[:-1]
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    background = axes.twinx()
    background.fill_between(edges / speech.sample_rate, low, high, color=WAVE, lw=0)
    peak = max(float(np.abs(samples).max()), 1e-3)
    background.set_ylim(-1.1 * peak, 1.1 * peak)
    background.axis("off")
    background.set_zorder(0)
    axes.set_zorder(1)
    axes.patch.set_visible(False)


def shade_frames(axes: Axes, times: np.ndarray, mask: np.ndarray) -> None:
    """Mark the frames where no face was seen, each half a frame to both sides, so that a single one shows."""
    if not mask.any():
        return
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    spans = [(times[a] - half, times[b - 1] - times[a] + 2 * half) for a, b in edges.reshape(-1, 2)]
    style = {"transform": axes.get_xaxis_transform(), "color": NO_FACE, "lw": 0, "zorder": 0.5}
    axes.broken_barh(spans, (0, 1), label="face not seen", **style)
