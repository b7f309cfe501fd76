"""Blink curves with natural, irregular timing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from .smoothing import frame_times_s, smooth_step
from .stress import REACH_S, nearest_stress

CLOSE_S, SHUT_S, OPEN_S = 0.09, 0.03, 0.17
MIN_PAUSE_S = 0.6
FIRST_S = 0.5
DOUBLE_SHARE, DOUBLE_S = 0.08, (0.36, 0.48)  # part of the blinks that a second one follows at once, and after how long
SPREAD = 0.6  # of the logarithm of the pauses


def blink_curve(
    num_frames: int,
    fps: Fraction,
    rate_per_min: float,
    seed: int = 0,
    stress: Tensor | None = None,
    duration: float = 1.0,
) -> Tensor:
    """Eye closure of every frame.

    Pauses are log-normal around the rate's mean, as people's are, some blinks are double; lids close faster than they
    open.

    Args:
        num_frames: length of the curve.
        fps: frames per second.
        rate_per_min: blinks per minute on average; 0 never blinks.
        seed: another one blinks at other times.
        stress: (T,) of each frame; a blink waits for, or hurries to, a stressed syllable close by.
        duration: of a blink, as a factor of a usual one's.

    Returns:
        (T,) 0 open .. 1 shut.
    """
    blinks = Blinks(fps, rate_per_min, seed, duration, num_frames / float(fps))
    return blinks.next(frame_times_s(num_frames, fps), stress)


class Blinks:
    """`blink_curve` piece by piece.

    Args:
        fps: frames per second.
        rate_per_min: blinks per minute on average.
        seed: another one blinks at other times.
        duration: of a blink, as a factor of a usual one's.
        until_s: the clip's end, from which on no blink begins.
    """

    def __init__(
        self, fps: Fraction, rate_per_min: float, seed: int = 0, duration: float = 1.0, until_s: float = math.inf
    ) -> None:
        starts = blink_starts_s(rate_per_min, seed)
        self._starts = itertools.takewhile(lambda start: start < until_s, starts)
        self._fps, self._duration = fps, duration
        self._start = next(self._starts, math.inf)  # of the next blink that has not been placed
        self._begun: list[float] = []  # when those began that may not have ended

    def next(self, times_s: Tensor, stress: Tensor | None = None, first: int = 0) -> Tensor:
        """Eye closure of the next frames.

        Args:
            times_s: (T,) later than all before.
            stress: (S,) of the frames from number `first` on: 0.5 s back from these frames to 0.5 s beyond them, or to
                the clip's end; None: blinks wait for nothing.
            first: see `stress`.

        Returns:
            (T,) 0 open .. 1 shut.
        """
        offset_s = first / float(self._fps)
        if not len(times_s):
            return torch.zeros(0)
        while self._start <= float(times_s[-1]) + REACH_S:
            begins = self._start
            if stress is not None:
                begins = max(FIRST_S, offset_s + nearest_stress(stress, self._fps, begins - offset_s, REACH_S))
            self._begun.append(begins)
            self._start = next(self._starts, math.inf)
        shut = torch.zeros(len(times_s), dtype=torch.float64)
        for begins in self._begun:
            shut = torch.maximum(shut, closure(times_s - begins, self._duration))
        over_s = self._duration * (CLOSE_S + SHUT_S + OPEN_S)
        self._begun = [begins for begins in self._begun if begins + over_s > float(times_s[-1])]
        return shut.float()


def blink_starts_s(rate_per_min: float, seed: int = 0) -> Iterator[float]:
    """Moments at which blinks begin, without end, seconds; none at a rate of 0. Arguments as of `blink_curve`."""
    if rate_per_min <= 0:
        return
    random = np.random.default_rng([seed, 0xB11])
    # double blinks shorten the mean interval; the other pauses make up for it, so that the rate holds
    single_s = (60.0 / rate_per_min - DOUBLE_SHARE * sum(DOUBLE_S) / 2) / (1 - DOUBLE_SHARE)
    mean_pause_s = max(single_s - MIN_PAUSE_S, 0.05)
    start = FIRST_S + float(random.uniform(0, mean_pause_s))
    while True:
        yield start
        # the mean of a log-normal is exp(µ + σ²/2)
        single = MIN_PAUSE_S + float(random.lognormal(np.log(mean_pause_s) - SPREAD**2 / 2, SPREAD))
        start += float(random.uniform(*DOUBLE_S)) if random.uniform() < DOUBLE_SHARE else single


def closure(since_s: Tensor, duration: float = 1.0) -> Tensor:
    """0 open .. 1 shut at times since a blink began, seconds; 0 before and after it."""
    closing = smooth_step(since_s / (duration * CLOSE_S))
    return closing - smooth_step((since_s - duration * (CLOSE_S + SHUT_S)) / (duration * OPEN_S))
