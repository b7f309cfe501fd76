"""The sum of several sounds, as that of people who speak in one video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .mix import mix_blocks
from .sound import SoundChoice, SoundFile

RATE_HZ = 48_000
CHANNELS = 2


def summed_sounds(sources: Sequence[Path | SoundChoice], at_most_s: float | None = None) -> tuple[Tensor, int]:
    """The sum of the sounds of some files, which all begin together.

    Args:
        sources: files, or choices of their tracks.
        at_most_s: how much of each is read; None reads all. A second takes 0.4 MB.

    Returns:
        (2, N) float32, as long as the longest, and its rate. Where the sum would clip, all of it is quieter.

    Raises:
        MediaError: a file holds no sound that can be read.
        InputError: there is no file.
    """
    if not sources:
        raise InputError("there is no sound to sum; give at least one file.")
    total = np.zeros((CHANNELS, 0), np.float32)
    for source in sources:
        one = _read(source, at_most_s)
        length = max(one.shape[1], total.shape[1])
        total = _padded(total, length)
        total[:, : one.shape[1]] += one
    peak = float(np.abs(total).max(initial=0.0))
    return torch.from_numpy(total / max(1.0, peak)), RATE_HZ


def _read(source: Path | SoundChoice, at_most_s: float | None) -> np.ndarray:
    most, read, parts = None if at_most_s is None else round(at_most_s * RATE_HZ), 0, []
    with SoundFile(source) as file:
        for block in mix_blocks(file.blocks(), CHANNELS, RATE_HZ):
            parts.append(block)
            read += block.shape[1]
            if most is not None and read >= most:
                break
    whole = np.concatenate(parts, 1) if parts else np.zeros((CHANNELS, 0), np.float32)
    return whole if most is None else whole[:, :most]


def _padded(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1])))
