"""Plot of a keypoint track: expression, rotation, translation and scale over time."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..types import KeypointTrack, Speech
from .curves import COLOURS, INK, draw_curves, draw_wave, figure_picture, finish_rows, new_figure, shade_frames, summary

LIPS = {"liveportrait-21": (6, 12, 14, 17, 19, 20)}  # keypoints that lips move, of layouts for which they are known


def plot_keypoints(track: KeypointTrack, speech: Speech | None = None, title: str = "") -> Tensor:
    """Plot the keypoints' mean displacement by expression, and the head's rotation, translation and scale.

    Args:
        track: T frames.
        speech: its waveform is drawn behind the expression, if given.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(7.6)
    rows = figure.subplots(4, 1, gridspec_kw={"height_ratios": [1.2, 1.1, 1.0, 0.7]})
    times = np.arange(len(track)) / float(track.fps)
    if speech is not None:
        draw_wave(rows[0], speech)
    draw_curves(rows[0], times, expression_curves(track), "half crops")
    angles = dict(zip(("pitch", "yaw", "roll"), track.rotation_deg.unbind(1), strict=True))
    draw_curves(rows[1], times, angles, "degrees")
    places = dict(zip(("x", "y", "z"), track.translation.unbind(1), strict=True))
    draw_curves(rows[2], times, {f"translation {axis}": values for axis, values in places.items()}, "half crops")
    draw_curves(rows[3], times, {"scale": track.scale}, "of the crop", COLOURS[1:])
    for axes in rows:
        shade_frames(axes, times, ~track.valid.numpy())
    finish_rows(rows, track.seconds)
    figure.suptitle(f"{summary(track, title)}, {track.layout}", x=0.02, ha="left", fontsize=12, color=INK)
    return figure_picture(figure)


def expression_curves(track: KeypointTrack) -> dict[str, Tensor]:
    """By name, (T,) the mean distance of keypoints from their mean expression: of all, and of the lips if known."""
    distance = (track.expression - track.expression.mean(0)).norm(dim=-1)
    curves = {"expression, all keypoints": distance.mean(1)}
    if track.layout in LIPS:
        curves["lips"] = distance[:, list(LIPS[track.layout])].mean(1)
    return curves
