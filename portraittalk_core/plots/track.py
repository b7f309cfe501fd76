"""Pictures of curves: what a landmark track does over time, and where a score was lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingDependency
from ..face import topology as topo
from ..face.geometry import eye_open, head_pose, jaw_drop, mouth_open, mouth_width
from ..types import LandmarkTrack, Speech

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, DPI = 12.0, 100
THUMBNAILS = 9
MOST_POINTS = 1500  # per curve; longer ones are drawn as a mean and the span between least and greatest values
BUCKETS = 500  # of longer ones
LONG_S = 100  # from here on the time axis counts minutes
INK, GRID, WAVE, UNSEEN = "#1f2933", "#dfe3e8", "#c9d3dd", "#fdf1b8"
COLOURS = ("#c2410c", "#0369a1", "#4d7c0f")
CONTOURS = (
    (*topo.FACE_OVAL, topo.FACE_OVAL[0]),
    topo.RIGHT_BROW[:5],
    topo.LEFT_BROW[:5],
    (*topo.RIGHT_UPPER_LID, *topo.RIGHT_LOWER_LID[::-1]),
    (*topo.LEFT_UPPER_LID, *topo.LEFT_LOWER_LID[::-1]),
    (*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[::-1]),
    (*topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP[::-1]),
)


def plot_track(track: LandmarkTrack, speech: Speech | None = None, title: str = "") -> Tensor:
    """Draw a track's mouth, jaw, eyes and head pose over time, and the face at some moments.

    Args:
        track: T frames.
        speech: its waveform is drawn behind the mouth, if given.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(9.6)
    rows = figure.subplots(5, 1, gridspec_kw={"height_ratios": [1.1, 1.2, 0.9, 0.8, 1.1]})
    times = np.arange(len(track)) / float(track.fps)
    if speech is not None:
        _draw_wave(rows[1], speech)
    _draw_faces(rows[0], track)
    _draw_curves(rows[1], times, {"mouth opening": mouth_open(track)}, "eye distances")
    curves = {"mouth width": mouth_width(track), "nose to chin": jaw_drop(track)}
    from_mean = {f"{name}, from its mean": curve - curve.mean() for name, curve in curves.items()}
    _draw_curves(rows[2], times, from_mean, "eye distances", COLOURS[1:])
    _draw_curves(rows[3], times, {"eye opening": eye_open(track)}, "height / width")
    angles = head_pose(track).angles_deg
    _draw_curves(rows[4], times, dict(zip(("pitch", "yaw", "roll"), angles.unbind(1), strict=True)), "degrees")
    for axes in rows[1:]:
        _shade(axes, times, ~track.valid.numpy())
    _finish(rows[1:], track.seconds)
    figure.suptitle(_summary(track, title), x=0.02, ha="left", fontsize=12, color=INK)
    return drawn(figure)


def plot_score(spatial_per_frame: Tensor, motion_per_frame: Tensor, fps: float, title: str) -> Tensor:
    """Draw where in time a score was lost.

    Args:
        spatial_per_frame: (T,) 0..1.
        motion_per_frame: (T − 1,) 0..1.
        fps: frames per second.
        title: a line above.

    Returns:
        (H, W, 3) uint8.
    """
    figure = new_figure(4.5)
    rows = figure.subplots(2, 1, sharex=True)
    times = np.arange(len(spatial_per_frame)) / fps
    _draw_curves(rows[0], times, {"place (spatial part)": spatial_per_frame}, "1 = equal")
    least = np.fmin.reduce(spatial_per_frame.numpy(), initial=1.0)
    rows[0].set_ylim(min(0.99, 1 - 1.25 * (1 - least)), 1 + 0.05 * max(0.01, 1 - least))
    middles = (np.arange(len(motion_per_frame)) + 0.5) / fps
    _draw_curves(rows[1], middles, {"motion (cosine part)": motion_per_frame}, "1 = equal", COLOURS[1:])
    rows[1].axhline(0.5, color=INK, lw=0.8, ls=":")  # unrelated motion
    rows[1].set_ylim(-0.03, 1.05)
    for axes in rows:
        _shade(axes, times, spatial_per_frame.isnan().numpy())
    _finish(rows, len(times) / fps)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=INK)
    return drawn(figure)


def new_figure(height_in: float) -> Figure:
    """An empty figure of this house's width, that needs no screen.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib; pip install matplotlib.") from error
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # draws without a screen, and without matplotlib's global state
    return figure


def drawn(figure: Figure) -> Tensor:
    """(H, W, 3) uint8 picture of a figure."""
    figure.canvas.draw()
    return torch.from_numpy(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def _summary(track: LandmarkTrack, title: str) -> str:
    unseen = int((~track.valid).sum())
    seen = "" if not unseen else f", face not seen in {unseen}"
    length = f"{track.seconds:.2f} s, {len(track)} frames at {float(track.fps):g} fps{seen}"
    return f"{title}   {length}" if title else length


def _draw_curves(
    axes: Axes, times: np.ndarray, curves: dict[str, Tensor], unit: str, colours: tuple[str, ...] = COLOURS
) -> None:
    for (name, values), colour in zip(curves.items(), colours, strict=False):
        numbers = values.numpy()
        if len(numbers) <= MOST_POINTS:
            dot = "o" if len(numbers) == 1 else None
            axes.plot(times, numbers, color=colour, lw=1.4, label=name, marker=dot)
            continue
        starts = np.linspace(0, len(numbers), BUCKETS + 1).astype(int)[:-1]
        low, high = np.fmin.reduceat(numbers, starts), np.fmax.reduceat(numbers, starts)
        seen = np.add.reduceat((~np.isnan(numbers)).astype(float), starts)
        mean = np.add.reduceat(np.nan_to_num(numbers), starts) / np.where(seen > 0, seen, np.nan)
        axes.fill_between(times[starts], low, high, color=colour, lw=0, alpha=0.22)
        axes.plot(times[starts], mean, color=colour, lw=1.1, label=name)
    axes.set_ylabel(unit, color=INK, fontsize=8)
    axes.margins(y=0.12)


def _finish(rows: Iterable[Axes], end_s: float) -> None:
    """One time axis for all, names above the curves, where they hide nothing."""
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


def _draw_wave(axes: Axes, speech: Speech) -> None:
    samples = speech.waveform.numpy()
    edges = np.linspace(0, len(samples), 1500).astype(int)[:-1]
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    behind = axes.twinx()
    behind.fill_between(edges / speech.sample_rate, low, high, color=WAVE, lw=0)
    peak = max(float(np.abs(samples).max()), 1e-3)
    behind.set_ylim(-1.1 * peak, 1.1 * peak)
    behind.axis("off")
    behind.set_zorder(0)
    axes.set_zorder(1)
    axes.patch.set_visible(False)


def _shade(axes: Axes, times: np.ndarray, where: np.ndarray) -> None:
    """Mark the frames where no face was seen, each half a frame to both sides, so that a single one shows."""
    if not where.any():
        return
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(int), [0]])))
    spans = [(times[a] - half, times[b - 1] - times[a] + 2 * half) for a, b in edges.reshape(-1, 2)]
    style = {"transform": axes.get_xaxis_transform(), "color": UNSEEN, "lw": 0, "zorder": 0.5}
    axes.broken_barh(spans, (0, 1), label="face not seen", **style)


def _draw_faces(axes: Axes, track: LandmarkTrack) -> None:
    """Contours of the face at evenly spread moments, side by side, all at one scale."""
    chosen = np.unique(np.linspace(0, len(track) - 1, THUMBNAILS).round().astype(int))
    points = track.points_px[torch.from_numpy(chosen), :, :2].numpy()
    middle = points.mean((0, 1))
    size = (points.max((0, 1)) - points.min((0, 1))).max()
    for place, (frame, face) in enumerate(zip(chosen, points, strict=True)):
        offset = np.array([1.12 * place * size, 0])
        for contour in CONTOURS:
            line = face[list(contour)] - middle + offset
            axes.plot(line[:, 0], line[:, 1], color=INK if track.valid[frame] else "#d1a000", lw=1.0)
        for iris in (topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0]):
            axes.plot(*(face[iris] - middle + offset), marker="o", ms=2.2, color=COLOURS[1])
        axes.text(
            offset[0], 0.66 * size, _clock(frame / float(track.fps), track.seconds), ha="center", fontsize=8, color=INK
        )
    axes.set_xlim(-0.62 * size, (1.12 * (THUMBNAILS - 1) + 0.62) * size)
    axes.set_ylim(0.72 * size, -0.6 * size)
    axes.set_aspect("equal")
    axes.axis("off")


def _clock(time_s: float, length_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d} min" if length_s > LONG_S else f"{time_s:.2f} s"
