"""A made voice that voice activity networks take for one: vowels that change, on a pitch that moves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATE_HZ = 16_000


def made_voice(seconds: float, pitch_hz: float = 120.0) -> Tensor:
    """(N,) a voice without pauses, at most about 0.4: harmonics under three formants, four vowels a second."""
    t = torch.arange(int(RATE_HZ * seconds), dtype=torch.float64) / RATE_HZ
    pitch = pitch_hz * (1 + 0.1 * (math.tau * 0.7 * t).sin() + 0.05 * (math.tau * 2.3 * t).sin())
    number = torch.arange(1, 30)[:, None]
    hz = number * pitch
    vowel = 500 + 250 * (math.tau * 2 * t).sin(), 1500 + 600 * (math.tau * 1.5 * t).sin(), torch.full_like(t, 2600)
    formants = zip(vowel, (80, 100, 150), (1.0, 0.6, 0.3), strict=True)
    strength = sum(gain / (1 + ((hz - centre) / width).square()) for centre, width, gain in formants)
    phase = math.tau * pitch.cumsum(0) / RATE_HZ
    sound = (strength * (number * phase).sin()).sum(0)
    return (0.15 * sound / sound.square().mean().sqrt()).float()


def syllables(seconds: float, begin_s: float = 0.0, end_s: float = math.inf) -> Tensor:
    """(N,) four syllables a second of `made_voice` between two times, silence before and after."""
    t = torch.arange(int(RATE_HZ * seconds)) / RATE_HZ
    loud = 0.05 + (math.pi * 4 * t).sin().square()
    return made_voice(seconds) * loud * ((t >= begin_s) & (t < end_s))
