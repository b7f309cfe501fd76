"""Sounds that go with a puppet: a tone as loud as its mouth is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from toy_puppet import FPS, PREPARED_FRAMES, motion, write_prepared

RATE_HZ, TONE_HZ = 16_000, 440.0


def spoken(seed: int, num_frames: int = PREPARED_FRAMES) -> Tensor:
    """(N,) waveform of the puppet of a seed, whose amplitude is its mouth's opening."""
    opening = motion(num_frames, seed)[:, 3].clamp(0, 1)
    count = round(num_frames * RATE_HZ / FPS)
    time = torch.arange(count) / RATE_HZ
    loudness = torch.nn.functional.interpolate(opening[None, None], count, mode="linear", align_corners=False)[0, 0]
    return 0.5 * loudness * (2 * math.pi * TONE_HZ * time).sin()


def write_speaking(folder: Path, names: Sequence[str]) -> Path:
    """`toy_puppet.write_prepared`, every puppet with its sound."""
    return write_prepared(folder, names, {name: spoken(seed) for seed, name in enumerate(names)})
