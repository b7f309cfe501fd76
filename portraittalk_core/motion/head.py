"""Small head motion: slow drift, and nods on stressed syllables."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..types import HeadPose
from .smoothing import frame_times_s, smooth_step

DRIFT_DEG = (1.0, 1.5, 0.9)  # standard deviation of pitch, yaw, roll at amount 1
DRIFT_SHIFT = (0.012, 0.008, 0.0)  # of x, y, z, inter-ocular distances
LIMIT = 2.2  # standard deviations that no drift passes
SLOWEST_HZ, FASTEST_HZ, WAVES = 0.07, 0.55, 7
NOD_DEG = 1.6  # at a fully stressed syllable
SETTLE_S = 0.6  # the head leaves its resting pose this slowly


def head_motion(
    stress: Tensor, fps: Fraction, amount: float = 1.0, seed: int = 0, shift: float | None = None, pace: float = 1.0
) -> HeadPose:
    """Head motion for a clip, relative to the portrait's own pose.

    Args:
        stress: (T,) of each frame, from `stress_curve`; the head nods on it.
        fps: frames per second.
        amount: 0 locks the head (exact zeros) .. 2; a style may ask for more.
        seed: another one drifts another way.
        shift: of the head's way, as `amount` of its turns; as much if None.
        pace: how much faster than by itself the head drifts.

    Returns:
        Angles and shifts to add, T frames; scale 1 throughout.
    """
    return HeadDrift(seed, amount, shift, pace).at(frame_times_s(len(stress), fps), stress)


class HeadDrift:
    """Head motion at any moment; arguments as of `head_motion`."""

    def __init__(self, seed: int = 0, amount: float = 1.0, shift: float | None = None, pace: float = 1.0) -> None:
        random = np.random.default_rng([seed, 0x4EAD])
        self._angles, self._ways = ([Drift(random) for _ in range(3)] for _ in range(2))
        self._amount, self._shift, self._pace = amount, amount if shift is None else shift, pace

    def at(self, times_s: Tensor, stress: Tensor) -> HeadPose:
        """Angles and shifts to add at (T,) times with (T,) stress."""
        if self._amount <= 0:
            count = len(times_s)
            return HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
        settle = smooth_step(times_s / SETTLE_S)[:, None]
        angles = torch.stack([drift.at(self._pace * times_s) for drift in self._angles], 1) * torch.tensor(DRIFT_DEG)
        ways = torch.stack([drift.at(self._pace * times_s) for drift in self._ways], 1) * torch.tensor(DRIFT_SHIFT)
        angles[:, 0] += NOD_DEG * stress
        moved = settle * ways * self._shift
        return HeadPose((self._amount * settle * angles).float(), moved.float(), torch.ones(len(times_s)))


class Drift:
    """A sum of slow waves whose frequencies share no period, of unit deviation, softly limited."""

    def __init__(self, random: np.random.Generator) -> None:
        edges = np.geomspace(SLOWEST_HZ, FASTEST_HZ, WAVES + 1)
        self._frequency = torch.from_numpy(random.uniform(edges[:-1], edges[1:]))
        self._phase = torch.from_numpy(random.uniform(0, 2 * np.pi, WAVES))
        strength = self._frequency**-0.7
        self._strength = strength / strength.square().sum().sqrt() * np.sqrt(2)

    def at(self, times_s: Tensor) -> Tensor:
        """(T,) at (T,) times."""
        waves = torch.sin(2 * np.pi * self._frequency * times_s[:, None] + self._phase)
        return LIMIT * torch.tanh((self._strength * waves).sum(1) / LIMIT)
