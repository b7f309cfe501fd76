"""Breath: how far the shoulders rise, frame by frame."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .smoothing import smooth_step

PERIOD_S, PERIOD_SPREAD = 4.3, 0.12  # of quiet breathing, 14 a minute; its deviation as a share
INHALE_S, SPEECH_INHALE_S = 1.6, 0.55  # quiet breath, and quick breath in a pause of speech
LEAST_PERIOD_S = 2.4  # between two breaths in speech: a pause that follows sooner is no breath
LONGEST_S = 9.0  # without a breath: then the next gap between two words is used
PAUSE_S = 0.06  # of silence, from which a pause allows a breath
EXHALE_S, SPEECH_EXHALE_S = 1.1, 3.2  # in which the chest sinks to a third, in quiet breath and in speech
DEPTH_SPREAD = 0.15
SPEECH_DEPTH = 1.2  # of a breath before a phrase, as a factor of a quiet one's
FULL_AT_START = 0.6  # who speaks has drawn breath before
SOFT_S = 0.1  # of each of two averages that soften the curve
SETTLE_S = 0.6  # shoulders leave the portrait's pose this slowly
SHOULDER_RISE = 0.03  # at amount 1, inter-ocular distances: 1.9 mm
HEAD_RISE, HEAD_BACK_DEG = 0.007, 0.35  # the head rises with them, and goes back


class Breath:
    """How full the chest is at any moment; pieces may be asked for one after the other.

    Quiet breath goes its own pace. Who speaks draws breath quickly in pauses, which come before the next phrase, and
    sinks slowly while speaking. What is decided depends on the past only, so that it is the same in a stream.

    Args:
        seed: another one breathes at other times.

    Source: McFarland, "Respiratory markers of conversational interaction", JSLHR 44, 2001 (inspiration shortens to
    about half a second and expiration lengthens in speech; quiet breath takes about four seconds).
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 0xB4EA])
        self._last_s: float | None = None  # time of the frame before
        self._full = FULL_AT_START  # of the chest, 1 after a quiet breath
        self._soft = [self._full, self._full]
        self._quiet_s, self._has_spoken = 0.0, False  # how long nobody has spoken; whether somebody has since a breath
        self._began = 0.0  # the last breath
        self._inhaling: tuple[float, float, float] | None = None  # seconds, from and to which fullness
        self._due = self._period_s() * float(self._random.uniform(0.3, 0.8))

    def at(self, times_s: Tensor, speaking: Tensor) -> Tensor:
        """(T,) 0 empty .. about 1 full at (T,) times, later than all before, while somebody speaks, (T,) bool."""
        full = [self._step(time, talks) for time, talks in zip(times_s.tolist(), speaking.tolist(), strict=True)]
        return torch.tensor(full) * smooth_step(times_s / SETTLE_S).float()

    def _step(self, time: float, talks: bool) -> float:
        passed = 0.0 if self._last_s is None else time - self._last_s
        self._last_s = time
        self._quiet_s = 0.0 if talks else self._quiet_s + passed
        self._has_spoken |= talks
        if self._inhaling is not None:
            self._inhale(time, talks)
        else:
            self._full *= math.exp(-passed / (SPEECH_EXHALE_S if talks else EXHALE_S))
            self._begin(time, talks)
        for index, value in enumerate((self._full, self._soft[0])):
            self._soft[index] += (1 - math.exp(-passed / SOFT_S)) * (value - self._soft[index])
        return self._soft[1]

    def _inhale(self, time: float, talks: bool) -> None:
        lasts, low, high = self._inhaling
        share = min((time - self._began) / lasts, 1.0)
        self._full = low + (high - low) * share * share * (3 - 2 * share)
        if share >= 1 or talks:
            self._inhaling = None

    def _begin(self, time: float, talks: bool) -> None:
        """Begin a breath where one is due and speech allows it."""
        since = time - self._began
        in_pause = self._has_spoken and self._quiet_s >= PAUSE_S and since >= LEAST_PERIOD_S
        in_gap = self._has_spoken and not talks and since >= LONGEST_S
        if talks or not (in_pause or in_gap or time >= self._due):
            return
        depth = float(self._random.lognormal(0, DEPTH_SPREAD)) * (SPEECH_DEPTH if self._has_spoken else 1.0)
        lasts = SPEECH_INHALE_S if self._has_spoken else INHALE_S
        self._inhaling = lasts, self._full, max(depth, self._full)
        self._began, self._has_spoken = time, False
        self._due = time + self._period_s()

    def _period_s(self) -> float:
        return PERIOD_S * max(0.5, 1 + PERIOD_SPREAD * float(self._random.standard_normal()))
