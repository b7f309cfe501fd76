"""Frame rates as exact fractions, and how many frames cover a sound."""

from __future__ import annotations

import math
from fractions import Fraction

from .checks import abbreviated, check_range
from .errors import InputError

MIN_FPS, MAX_FPS = 1, 240


def as_fps(fps: Fraction | float | str, name: str = "fps") -> Fraction:
    """Turn 25, 29.97, "30000/1001" or a Fraction into an exact frame rate.

    A float within 0.01 of an NTSC rate (23.976, 29.97, 59.94, …) becomes that rate exactly.

    Args:
        fps: the rate.
        name: what to call it in the message, such as a flag.

    Raises:
        InputError: not a number, or outside 1..240 frames per second.
    """
    try:
        if isinstance(fps, str) and "e" in fps.lower():
            fps = float(fps)  # for the fraction of 1e999999999 would fill the memory
        exact = Fraction(fps) if not isinstance(fps, float) else Fraction(str(fps))
    except (ValueError, ZeroDivisionError, TypeError, OverflowError) as error:
        raise InputError(f"{name} must be a number such as 25 or 30000/1001, not {abbreviated(fps)}.") from error
    check_range(exact, MIN_FPS, MAX_FPS, name)
    ntsc = Fraction(round(exact * Fraction(1001, 1000)) * 1000, 1001)
    if exact.denominator not in (1, 1001) and abs(exact - ntsc) < Fraction(1, 100):
        return ntsc
    return exact


def num_frames_for(num_samples: int, sample_rate: int, fps: Fraction) -> int:
    """Number of frames that cover a sound: ceil(seconds · fps), in exact arithmetic."""
    return math.ceil(Fraction(num_samples, sample_rate) * fps)
