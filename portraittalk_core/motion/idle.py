"""Idle and listening motion of the head: slow sway in pauses, nods of somebody who listens."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..types import HeadPose
from .head import Drift

PAUSE_S = 0.5  # of rest, after which a face is idle
RISE_S, FALL_S = 0.8, 0.25  # in which idle motion comes, and goes as the face speaks
SWAY_DEG = (0.6, 1.1, 0.9)  # standard deviation of pitch, yaw and roll at amount 1
SWAY_SHIFT = (0.015, 0.004, 0.0)  # inter-ocular distances
SWAY_PACE = 0.6  # of the head's own drift
NOD_S, NOD_SPREAD = 5.5, 0.45  # between nods; log-normal
FIRST_NOD_S = 1.5  # of idleness
NOD_HZ, NOD_DECAY_S, NOD_LASTS_S = 2.3, 0.4, 1.3
NOD_DEG, NOD_AMOUNTS = 2.2, (0.5, 1.0)
ANSWERING = 0.5  # part of the others' phrase ends that are answered by a nod
TURN_SHARE, TURN_S = 0.35, 0.25  # of a direction that the head turns too, and how slowly, twice
ANSWER_S = 1.5  # least time between two nods


class IdleMotion:
    """What a head does while it does not speak; pieces may be asked for one after the other.

    Args:
        seed: another one nods at other times.
        pace: how much faster than by itself the head sways.

    Source: Hadar, Steiner and Clifford Rose, "Head movement during listening turns in conversation", Journal of
    Nonverbal Behavior 9, 1985 (nods of 1.8-3.7 Hz, at the ends of what the other says).
    """

    def __init__(self, seed: int = 0, pace: float = 1.0) -> None:
        self._random = np.random.default_rng([seed, 0x1D1E])
        self._sway, self._shift = ([Drift(self._random) for _ in range(3)] for _ in range(2))
        self._pace = SWAY_PACE * pace
        self._level, self._quiet_s, self._last_s = 0.0, PAUSE_S, None
        self._next_nod = FIRST_NOD_S + self._interval_s()
        self._nods: list[tuple[float, float]] = []  # of the last seconds: when they began, and how strong
        self._others_spoke = False
        self._turns, self._turned_s = [torch.zeros(2), torch.zeros(2)], None

    def at(
        self, times_s: Tensor, speaking: Tensor, others: Tensor | None = None, towards_deg: Tensor | None = None
    ) -> HeadPose:
        """Head motion, none while the face speaks.

        Args:
            times_s: (T,) later than all before.
            speaking: (T,) bool: this face.
            others: (T,) 0..1 how much others speak, to whom it listens; None: nobody is there.
            towards_deg: (T, 2) yaw and pitch at which it sees them, to where it turns a little.

        Returns:
            Angles and shifts to add.
        """
        levels, pitches = [], []
        others = torch.zeros(len(times_s)) if others is None else others
        for time, talks, share in zip(times_s.tolist(), speaking.tolist(), others.tolist(), strict=True):
            self._step(time, talks, share > 0.5)
            levels.append(self._level)
            pitches.append(self._nodding(time))
        level, pitch = torch.tensor(levels), torch.tensor(pitches)
        angles = torch.stack([sway.at(self._pace * times_s) for sway in self._sway], 1) * torch.tensor(SWAY_DEG)
        ways = torch.stack([sway.at(self._pace * times_s) for sway in self._shift], 1) * torch.tensor(SWAY_SHIFT)
        angles[:, 0] += pitch
        if towards_deg is not None:
            angles[:, [1, 0]] += TURN_SHARE * self._turned(times_s, towards_deg)
        share = level[:, None]
        return HeadPose((share * angles).float(), (share * ways).float(), torch.ones(len(times_s)))

    def _step(self, time: float, talks: bool, other_speaks: bool) -> None:
        passed = 0.0 if self._last_s is None else time - self._last_s
        self._last_s = time
        self._quiet_s = 0.0 if talks else self._quiet_s + passed
        rises = self._quiet_s >= PAUSE_S
        self._level += (1 - math.exp(-passed / (RISE_S if rises else FALL_S))) * (float(rises) - self._level)
        ended, self._others_spoke = self._others_spoke and not other_speaks, other_speaks
        rested = not self._nods or time - self._nods[-1][0] > ANSWER_S
        answers = ended and rested and self._random.uniform() < ANSWERING
        if rises and (answers or time >= self._next_nod):
            self._nods = [*(nod for nod in self._nods if time - nod[0] < NOD_LASTS_S), self._nod(time)]
            self._next_nod = time + self._interval_s()
        elif talks:
            self._next_nod = max(self._next_nod, time + FIRST_NOD_S)

    def _turned(self, times_s: Tensor, towards_deg: Tensor) -> Tensor:
        """(T, 2) the directions that the head follows, softly."""
        turns = []
        for time, towards in zip(times_s.tolist(), towards_deg, strict=True):
            passed = 0.0 if self._turned_s is None else time - self._turned_s
            self._turned_s = time
            share = 1 - math.exp(-passed / TURN_S)
            self._turns[0] = torch.lerp(self._turns[0], towards, share)
            self._turns[1] = torch.lerp(self._turns[1], self._turns[0], share)
            turns.append(self._turns[1])
        return torch.stack(turns)

    def _nod(self, time: float) -> tuple[float, float]:
        return time, NOD_DEG * float(self._random.uniform(*NOD_AMOUNTS))

    def _nodding(self, time: float) -> float:
        """Degrees of pitch of all nods."""
        total = 0.0
        for began, strength in self._nods:
            since = time - began
            if since < NOD_LASTS_S:
                fade = math.exp(-since / NOD_DECAY_S)
                # the head goes down and comes back, a little less each time
                total += strength * fade * 0.5 * (1 - math.cos(2 * math.pi * NOD_HZ * since))
        return total

    def _interval_s(self) -> float:
        return float(self._random.lognormal(math.log(NOD_S), NOD_SPREAD))
