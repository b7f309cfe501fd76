"""Mouth gain curves from text: points of seconds and gain."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..checks import abbreviated, is_finite_number
from ..errors import InputError
from .points import read_points
from .smoothing import frame_times_s

MAX_GAIN = 2.0
EXAMPLE = "[[0, 1], [2.5, 0.4], [3, 1]]"


def gain_points(text: str) -> list[tuple[float, float]]:
    """Points of seconds and gain, sorted by time.

    Args:
        text: JSON, a list of [seconds, gain] pairs; empty or [] is none.

    Raises:
        InputError: no JSON, no pairs, a negative time, or a gain outside 0..2.
    """
    return read_points(text, "gain", EXAMPLE, _point)


def _point(entry: object, number: int) -> tuple[float, float]:
    is_pair = isinstance(entry, list) and len(entry) == 2
    if not is_pair or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in entry):
        raise InputError(f"gain point {number} must be a pair [seconds, gain], not {abbreviated(entry)}.")
    if not all(map(is_finite_number, entry)):
        raise InputError(f"gain point {number} must be two finite numbers, not {abbreviated(entry)}.")
    seconds, gain = float(entry[0]), float(entry[1])
    if not 0 <= seconds <= 1e7:
        raise InputError(f"gain point {number} lies at {seconds:g} s; times count from 0, the clip's beginning.")
    if not 0 <= gain <= MAX_GAIN:
        raise InputError(f"gain point {number} has gain {gain:g}; it must lie between 0 and {MAX_GAIN:g}.")
    return seconds, gain


def gain_curve(text: str, num_frames: int, fps: Fraction) -> Tensor | None:
    """The gain of every frame: straight between the points, held before the first and after the last.

    Args:
        text: as for `gain_points`.
        num_frames: of the clip.
        fps: frames per second.

    Returns:
        (T,) 0..2; None if there are no points.
    """
    points = gain_points(text)
    if not points:
        return None
    seconds, gains = zip(*points, strict=True)
    times = frame_times_s(num_frames, fps).numpy()
    return torch.from_numpy(np.interp(times, seconds, gains)).float()


def gain_of_values(values: float | Sequence[float], num_frames: int) -> Tensor:
    """The gain of every frame from one number a frame: padded with the last one, or truncated.

    Args:
        values: one number for all frames, or a list of them.
        num_frames: of the clip.

    Returns:
        (T,) as given; `MotionOptions` checks the range.

    Raises:
        InputError: no number, or something else than numbers.
    """
    listed = list(values) if isinstance(values, (list, tuple, Tensor)) else [values]
    try:
        curve = torch.tensor([float(value) for value in listed])[:num_frames]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the curve must be numbers from 0 to {MAX_GAIN:g}, one a frame ({error}).") from error
    if not len(curve):
        raise InputError("the curve is an empty list; give it a number for each frame, or disconnect it.")
    return torch.cat([curve, curve[-1:].expand(num_frames - len(curve))])
