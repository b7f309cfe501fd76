"""Blink curves with natural, irregular timing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from .smoothing import frame_times_s, smooth_step
from .stress import nearest_stress

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
    times = frame_times_s(num_frames, fps)
    shut = torch.zeros(num_frames, dtype=torch.float64)
    for start in itertools.takewhile(lambda start: start < num_frames / float(fps), blink_starts_s(rate_per_min, seed)):
        begins = start if stress is None else max(FIRST_S, nearest_stress(stress, fps, start))
        shut = torch.maximum(shut, closure(times - begins, duration))
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
