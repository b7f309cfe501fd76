"""Correlation of a mouth's opening with its own sound's level: a proxy of lip sync that needs no weights.

Shapes: T frames, M stretches of 10 ms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .lip_sync import MAX_LAG_S, lip_correlation
from .meter import FaceCurves

LEVEL_HZ = 100  # of the sound's level


def sound_mouth_correlation(curves: FaceCurves) -> dict[str, float]:
    """The correlation at the best lag within ±0.2 s, and that lag in milliseconds, + where the mouth is late.

    Raises:
        InputError: no sound, or fewer than 10 frames with a face.
    """
    if curves.sound_level is None:
        raise InputError(curves.no_sound)
    fps, num_frames = float(curves.fps), len(curves.valid)
    level = level_per_frame(curves.sound_level, num_frames, fps)
    max_lag = min(max(1, round(MAX_LAG_S * fps)), num_frames)
    correlation = lip_correlation(level, curves.mouth_open, curves.valid, max_lag)
    return {"sound_mouth_correlation": correlation.r_best, "sound_mouth_lag": correlation.lag / fps * 1000}


def level_per_frame(level: Tensor, num_frames: int, fps: float) -> Tensor:
    """(T,) mean of a level curve (100 a second) over each frame's time; beyond its end the last value.

    Args:
        level: (M,) any unit.
        num_frames: T.
        fps: frames per second.
    """
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), level.double().cumsum(0)])
    edges = (torch.arange(num_frames + 1, dtype=torch.float64) / fps * LEVEL_HZ).clamp(max=len(level))
    index = edges.floor().long()
    padded = torch.cat([level.double(), level[-1:].double()])
    integral = sums[index] + (edges - index) * padded[index]
    widths = edges[1:] - edges[:-1]
    means = (integral[1:] - integral[:-1]) / widths.clamp(min=1e-9)
    return torch.where(widths > 1e-6, means, padded[-1])
