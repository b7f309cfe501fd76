"""The sum of several sounds, as that of people who speak in one video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..types import SPEECH_RATE_HZ, Speech
from .mix import Block, mix_blocks, tensor_blocks
from .sound import SoundChoice, SoundFile

Source = Path | SoundChoice | tuple[Tensor, int]
"""A file, one of its tracks, or a waveform (C, N) and its rate."""

SILENCE = "silence"  # stands for a sound: who says nothing, but listens
LISTENED_S = 0.1  # of silence, which goes on as long as others speak
RATE_HZ = 48_000
CHANNELS = 2


def nothing_said() -> Speech:
    """The speech of somebody who listens."""
    return Speech(torch.zeros(round(LISTENED_S * SPEECH_RATE_HZ)), source=SILENCE)


def summed_sounds(sources: Sequence[Source], at_most_s: float | None = None) -> tuple[Tensor, int]:
    """The sum of some sounds, which all begin together.

    Args:
        sources: files, choices of their tracks, or waveforms in memory.
        at_most_s: how much of each is read; None reads all. A second takes 0.4 MB.

    Returns:
        (2, N) float32, as long as the longest, and its rate. Where the sum would clip, all of it is quieter.

    Raises:
        MediaError: a file holds no sound that can be read.
        InputError: there is none.
    """
    if not sources:
        raise InputError("there is no sound to sum; give at least one.")
    total = np.zeros((CHANNELS, 0), np.float32)
    for source in sources:
        samples = _read(source, at_most_s)
        length = max(samples.shape[1], total.shape[1])
        total = _padded(total, length)
        total[:, : samples.shape[1]] += samples
    peak = float(np.abs(total).max(initial=0.0))
    return torch.from_numpy(total / max(1.0, peak)), RATE_HZ


def _read(source: Source, at_most_s: float | None) -> np.ndarray:
    if isinstance(source, tuple):
        return _mixed(tensor_blocks(*source), at_most_s)
    with SoundFile(source) as file:
        return _mixed(file.blocks(), at_most_s)


def _mixed(blocks: Iterator[Block], at_most_s: float | None) -> np.ndarray:
    """(2, N) of blocks at `RATE_HZ`."""
    limit, read, parts = None if at_most_s is None else round(at_most_s * RATE_HZ), 0, []
    for block in mix_blocks(blocks, CHANNELS, RATE_HZ):
        parts.append(block)
        read += block.shape[1]
        if limit is not None and read >= limit:
            break
    samples = np.concatenate(parts, 1) if parts else np.zeros((CHANNELS, 0), np.float32)
    return samples if limit is None else samples[:, :limit]


def _padded(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1])))
