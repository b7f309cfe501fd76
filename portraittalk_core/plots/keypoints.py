"""Plot of a keypoint track: mouth, eyes, expression, head, place and size over time."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..motion.keypoint_curves import curves_of
from ..motion.keypoint_regions import KEYPOINTS_OF_REGIONS, MOUTH
from ..types import KeypointTrack, Speech
from .curves import COLOURS, INK, draw_curves, draw_wave, figure_picture, finish_rows, new_figure, shade_frames, summary

LIPS = {layout: regions[MOUTH] for layout, regions in KEYPOINTS_OF_REGIONS.items()}  # keypoints that lips move


def plot_keypoints(track: KeypointTrack, speech: Speech | None = None, title: str = "") -> Tensor:
    """Plot the mouth's opening and the eyes' closure, the keypoints' mean displacement, and the head.

    Of a layout whose keypoints are known by name the first row shows how far the lips part and the eyes shut; of
    another, the strongest movement of its expression.

    Args:
        track: T frames.
        speech: its waveform is drawn behind the mouth, if given.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure(7.6)
    rows = figure.subplots(5, 1, gridspec_kw={"height_ratios": [1.2, 0.8, 1.1, 0.8, 0.5]})
    times = np.arange(len(track)) / float(track.fps)
    if speech is not None:
        draw_wave(rows[0], speech)
    curves = curves_of(track)
    if track.layout in LIPS:
        mouth, unit = {"lips apart, of the mouth's width": curves.mouth, "eyes shut": curves.blink}, "parts of 1"
    else:
        mouth, unit = {"strongest movement": curves.mouth}, "half crops"
    draw_curves(rows[0], times, mouth, unit)
    draw_curves(rows[1], times, expression_curves(track), "half crops")
    head = {"pitch (+ down)": curves.pitch, "yaw (+ to the right)": curves.yaw, "roll (+ clockwise)": curves.roll}
    draw_curves(rows[2], times, head, "degrees")
    places = dict(zip(("x", "y", "z"), track.translation.unbind(1), strict=True))
    draw_curves(rows[3], times, {f"translation {axis}": values for axis, values in places.items()}, "half crops")
    draw_curves(rows[4], times, {"scale": track.scale}, "of the crop", COLOURS[1:])
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
