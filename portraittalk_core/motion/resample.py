"""A track at another frame rate: the same motion at the same times."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import torch

from ..types import LandmarkTrack, as_fps
from .smoothing import frame_times_s


def at_fps(track: LandmarkTrack, fps: Fraction | float | str) -> LandmarkTrack:
    """A track resampled by time, so that it lasts as long as before.

    Args:
        track: T frames.
        fps: frames per second that are wanted.

    Returns:
        ceil(T · fps / track.fps) frames: between those given where their middles lie, `valid` where both were; the
        track itself at its own rate.

    Raises:
        InputError: not a frame rate.
    """
    fps = as_fps(fps)
    if fps == track.fps:
        return track
    count, rate = math.ceil(len(track) * fps / track.fps), float(track.fps)
    times = frame_times_s(count, fps) - 0.5 / rate
    at = (times.double() * rate).clamp(0, len(track) - 1)
    left = at.floor().long()
    right, share = at.ceil().long(), (at - left).float()
    points = torch.lerp(track.points[left], track.points[right], share[:, None, None])
    seen = track.valid[left] & track.valid[right]
    return replace(track, points=points, valid=seen, fps=fps)
