"""Pictures of curves: what a landmark track does over time, and where a score was lost."""

from __future__ import annotations

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
MOST_POINTS = 3000  # per curve; longer ones are drawn as the span between their least and greatest values
INK, GRID, WAVE = "#1f2933", "#dfe3e8", "#c9d3dd"
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
    figure = _figure(9.0)
    rows = figure.subplots(4, 1, gridspec_kw={"height_ratios": [1.05, 1.5, 0.9, 1.3]})
    times = np.arange(len(track)) / float(track.fps)
    _draw_faces(rows[0], track)
    if speech is not None:
        _draw_wave(rows[1], speech)
    mouth = {"mouth opening": mouth_open(track)}
    for name, curve in (("mouth width (from its mean)", mouth_width(track)), ("jaw (from its mean)", jaw_drop(track))):
        mouth[name] = curve - curve.mean()
    _draw_curves(rows[1], times, mouth, "inter-ocular\ndistances")
    _draw_curves(rows[2], times, {"eye opening": eye_open(track)}, "height /\nwidth")
    angles = head_pose(track).angles_deg
    _draw_curves(rows[3], times, dict(zip(("pitch", "yaw", "roll"), angles.unbind(1), strict=True)), "degrees")
    for axes in rows[1:]:
        _shade(axes, times, ~track.valid.numpy(), "face not seen")
        axes.set_xlim(0, max(times[-1], 1e-3))
    rows[3].set_xlabel("seconds")
    figure.suptitle(title or _summary(track), x=0.02, ha="left", fontsize=12, color=INK)
    return _drawn(figure)


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
    figure = _figure(4.5)
    top, bottom = figure.subplots(2, 1, sharex=True)
    _draw_curves(top, np.arange(len(spatial_per_frame)) / fps, {"place (spatial part)": spatial_per_frame}, "1 = equal")
    times = (np.arange(len(motion_per_frame)) + 0.5) / fps
    _draw_curves(bottom, times, {"motion (cosine part)": motion_per_frame}, "1 = equal")
    bottom.set_ylim(-0.03, 1.03)
    bottom.set_xlabel("seconds")
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=INK)
    return _drawn(figure)


def _figure(height_in: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("plots need matplotlib; pip install matplotlib.") from error
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # draws without a screen, and without matplotlib's global state
    return figure


def _drawn(figure: Figure) -> Tensor:
    figure.canvas.draw()
    return torch.from_numpy(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def _summary(track: LandmarkTrack) -> str:
    unseen = int((~track.valid).sum())
    seen = "" if not unseen else f", face not seen in {unseen}"
    return f"{track.seconds:.2f} s, {len(track)} frames at {float(track.fps):g} fps{seen}"


def _draw_curves(axes: Axes, times: np.ndarray, curves: dict[str, Tensor], unit: str) -> None:
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        numbers = values.numpy()
        if len(numbers) <= MOST_POINTS:
            axes.plot(times, numbers, color=colour, lw=1.3, label=name)
            continue
        edges = np.linspace(0, len(numbers), MOST_POINTS // 2 + 1).astype(int)[:-1]
        low, high = np.minimum.reduceat(numbers, edges), np.maximum.reduceat(numbers, edges)
        axes.fill_between(times[edges], low, high, color=colour, lw=0.4, label=name)
    axes.set_ylabel(unit, color=INK, fontsize=9)
    axes.grid(color=GRID, lw=0.6)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=8, ncols=3, framealpha=0.85, edgecolor=GRID)
    axes.margins(y=0.12)


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


def _shade(axes: Axes, times: np.ndarray, where: np.ndarray, label: str) -> None:
    if where.any():
        axes.fill_between(
            times,
            0,
            1,
            where=where,
            transform=axes.get_xaxis_transform(),
            color="#fde68a",
            alpha=0.6,
            label=label,
            lw=0,
        )


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
        axes.text(offset[0], 0.66 * size, f"{frame / float(track.fps):.2f} s", ha="center", fontsize=8, color=INK)
    axes.set_xlim(-0.62 * size, (1.12 * (THUMBNAILS - 1) + 0.62) * size)
    axes.set_ylim(0.72 * size, -0.6 * size)
    axes.set_aspect("equal")
    axes.axis("off")
