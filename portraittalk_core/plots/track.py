"""Plots of a landmark track over time, and of ADFD's parts per frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..face import topology as topo
from ..face.geometry import eye_open, head_pose, jaw_drop, mouth_open, mouth_width
from ..types import LandmarkTrack, Speech
from .curves import (
    COLOURS,
    INK,
    LONG_S,
    draw_curves,
    draw_wave,
    figure_picture,
    finish_rows,
    new_figure,
    shade_frames,
    summary,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAILS = 9
PLACES = {"left": 0.06, "right": 0.995, "bottom": 0.047, "top": 0.957, "hspace": 0.245}  # of the axes, in the figure
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
    """Plot a track's mouth, jaw, eyes and head pose over time, and the face at some moments.

    Args:
        track: T frames.
        speech: its waveform is drawn behind the mouth, if given.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(9.6, layout=None)  # every AudioToLandmarks draws one
    rows = figure.subplots(5, 1, gridspec_kw={"height_ratios": [1.1, 1.2, 0.9, 0.8, 1.1], **PLACES})
    times = np.arange(len(track)) / float(track.fps)
    if speech is not None:
        draw_wave(rows[1], speech)
    _draw_faces(rows[0], track)
    draw_curves(rows[1], times, {"mouth opening": mouth_open(track)}, "eye distances")
    curves = {"mouth width": mouth_width(track), "nose to chin": jaw_drop(track)}
    from_mean = {f"{name}, from its mean": curve - curve.mean() for name, curve in curves.items()}
    draw_curves(rows[2], times, from_mean, "eye distances", COLOURS[1:])
    draw_curves(rows[3], times, {"eye opening": eye_open(track)}, "height / width")
    angles = head_pose(track).angles_deg
    draw_curves(rows[4], times, dict(zip(("pitch", "yaw", "roll"), angles.unbind(1), strict=True)), "degrees")
    for axes in rows[1:]:
        shade_frames(axes, times, ~track.valid.numpy())
    finish_rows(rows[1:], track.seconds)
    figure.suptitle(summary(track, title), x=0.02, ha="left", fontsize=12, color=INK)
    return figure_picture(figure)


def plot_score(spatial_per_frame: Tensor, motion_per_frame: Tensor, fps: float, title: str) -> Tensor:
    """Plot the spatial and motion parts of ADFD over time.

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
    draw_curves(rows[0], times, {"place (spatial part)": spatial_per_frame}, "1 = equal")
    lowest = np.fmin.reduce(spatial_per_frame.numpy(), initial=1.0)
    rows[0].set_ylim(min(0.99, 1 - 1.25 * (1 - lowest)), 1 + 0.05 * max(0.01, 1 - lowest))
    middles = (np.arange(len(motion_per_frame)) + 0.5) / fps
    draw_curves(rows[1], middles, {"motion (cosine part)": motion_per_frame}, "1 = equal", COLOURS[1:])
    rows[1].axhline(0.5, color=INK, lw=0.8, ls=":")  # unrelated motion
    rows[1].set_ylim(-0.03, 1.05)
    for axes in rows:
        shade_frames(axes, times, spatial_per_frame.isnan().numpy())
    finish_rows(rows, len(times) / fps)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=INK)
    return figure_picture(figure)


def _draw_faces(axes: Axes, track: LandmarkTrack) -> None:
    """Contours of the face at evenly spread moments, side by side, all at one scale."""
    frames = np.unique(np.linspace(0, len(track) - 1, THUMBNAILS).round().astype(int))
    points = track.points_px[torch.from_numpy(frames), :, :2].numpy()
    middle = points.mean((0, 1))
    size = (points.max((0, 1)) - points.min((0, 1))).max()
    gap = np.full((1, 2), np.nan)  # between two contours of one line
    for place, (frame, face) in enumerate(zip(frames, points, strict=True)):
        offset = np.array([1.12 * place * size, 0])
        placed = face - middle + offset
        line = np.concatenate([part for contour in CONTOURS for part in (placed[list(contour)], gap)])
        axes.plot(line[:, 0], line[:, 1], color=INK if track.valid[frame] else "#d1a000", lw=1.0)
        irises = placed[[topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0]]]
        axes.plot(irises[:, 0], irises[:, 1], ls="none", marker="o", ms=2.2, color=COLOURS[1])
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
