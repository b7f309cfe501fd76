"""Blink rate and duration of a face."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..face.curve_statistics import blink_durations_s
from ..face.geometry import eye_open
from ..types import LandmarkTrack


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
