"""Speech stress from the mouth's opening, which head, brows and lids follow lightly."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from ..types import MouthCurves
from .smoothing import gaussian_smoothing

SYLLABLE_S, PHRASE_S = 0.12, 0.6
REACH_S = 0.25  # within which a stressed syllable is looked for
BROW_SHARE, BROW_SLOW_S = 0.8, 0.16  # brows rise on the strongest stresses only, and slower than the jaw


def stress_curve(mouth: MouthCurves, fps: Fraction) -> Tensor:
    """Stress of every frame: the mouth's opening relative to its surroundings in time.

    Args:
        mouth: T frames, at its natural gain.
        fps: frames per second.

    Returns:
        (T,) about −0.5..0.8, 0 on average.
    """
    rate = float(fps)
    return (
        gaussian_smoothing(mouth.opening, SYLLABLE_S * rate) - gaussian_smoothing(mouth.opening, PHRASE_S * rate)
    ).clamp(-0.5, 0.8)


def brow_curve(stress: Tensor, fps: Fraction) -> Tensor:
    """(T,) 0 at rest .. about 1: the brows rise a little on strong stress."""
    strong = (stress - 0.1).clamp(min=0) * BROW_SHARE / 0.3
    return gaussian_smoothing(strong, BROW_SLOW_S * float(fps)).clamp(0, 1)


def stress_reach(fps: Fraction) -> int:
    """How many frames around each `brow_curve` of `stress_curve` looks at, at most."""
    return math.ceil(3 * PHRASE_S * float(fps)) + math.ceil(3 * BROW_SLOW_S * float(fps)) + 2


def nearest_stress(stress: Tensor, fps: Fraction, at_s: float, reach_s: float = REACH_S) -> float:
    """Time of the strongest stress within `reach_s` of a moment; the moment itself if nothing is stressed there."""
    rate = float(fps)
    first, last = max(0, round((at_s - reach_s) * rate)), min(len(stress), round((at_s + reach_s) * rate) + 1)
    if first >= last or float(stress[first:last].max()) < 0.05:
        return at_s
    return (first + int(torch.argmax(stress[first:last]))) / rate
