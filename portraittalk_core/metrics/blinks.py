"""Blink rate and duration of a face."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from ..face.curve_statistics import blink_durations_s
from ..face.geometry import eye_open
from ..types import LandmarkTrack
from .meter import FaceCurves

MIN_FRAMES = 3  # with a face


@dataclass(frozen=True)
class Blinks:
    """How a face blinks."""

    count: int
    per_minute: float  # of the time with a face in sight
    median_s: float | None  # how long the lids stay below the threshold; None without a blink


def blinks(track: LandmarkTrack) -> Blinks:
    """Count and time the blinks of a track.

    Args:
        track: T frames; those without a face count neither as shut eyes nor as time.

    Raises:
        InputError: no frame shows a face.
    """
    num_seen = int(track.valid.sum())
    if not num_seen:
        raise InputError("no frame of the track shows a face, so blinks cannot be counted.")
    lengths = blink_durations_s(eye_open(track), track.valid, track.fps)
    median = float(lengths.median()) if len(lengths) else None
    return Blinks(len(lengths), len(lengths) * 60 * float(track.fps) / num_seen, median)


def blink_rate(curves: FaceCurves) -> float:
    """Blinks per minute of the time with a face.

    Raises:
        InputError: a face in fewer than three frames.
    """
    num_blinks = len(_durations_s(curves))
    return num_blinks * 60 * float(curves.fps) / int(curves.valid.sum())


def blink_duration(curves: FaceCurves) -> float:
    """Median duration of a blink, seconds.

    Raises:
        InputError: a face in fewer than three frames, or no blink.
    """
    durations = _durations_s(curves)
    if not len(durations):
        raise InputError("there was no blink")
    return float(durations.median())


def _durations_s(curves: FaceCurves) -> Tensor:
    if int(curves.valid.sum()) < MIN_FRAMES:
        raise InputError(f"a face is seen in fewer than {MIN_FRAMES} frames")
    return blink_durations_s(curves.eye_open, curves.valid, curves.fps)
