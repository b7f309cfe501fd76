"""Sound as a stream of float blocks: mixed down and resampled without ever holding all of it.

Blocks are (C, n) float32 arrays in -1..1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import av
import numpy as np
from torch import Tensor

log = logging.getLogger(__name__)

# How loud each channel is on the left of a stereo mix; the right mirrors it (ITU-R BS.775: 3 dB less from elsewhere).
_HALF_POWER = math.sqrt(0.5)
_TO_LEFT = {"FL": 1.0, "FC": _HALF_POWER, "SL": _HALF_POWER, "BL": _HALF_POWER, "BC": 0.5, "FLC": 1.0, "LFE": 0.0}
_MIRROR = {"FL": "FR", "SL": "SR", "BL": "BR", "FLC": "FRC"}
_TO_LEFT |= {right: 0.0 for right in _MIRROR.values()}
_MIRROR |= {right: left for left, right in _MIRROR.items()}
# What a file that does not name its channels means by so many of them.
_USUAL_LAYOUT = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}

CANCEL = 10.0  # as a ratio of powers: a sum so much weaker than with channels turned over has cancelled out
PHASE_S = 0.05  # by how long channels are compared
FADE_S = 0.01


class Block(NamedTuple):
    """A stretch of sound as it was recorded."""

    samples: np.ndarray  # (C, n) float32
    rate: int  # Hz
    channels: tuple[str, ...]  # FFmpeg's names, "NONE" where the file has none


def tensor_blocks(waveform: Tensor, rate: int) -> Iterator[Block]:
    """A (C, N) waveform in memory as blocks of a second."""
    names = _USUAL_LAYOUT.get(len(waveform), ("NONE",) * len(waveform))
    for start in range(0, waveform.shape[1], rate):
        samples = waveform[:, start : start + rate].detach().float().cpu().numpy()
        yield Block(samples, rate, names)


def mix_blocks(blocks: Iterable[Block], num_channels: int, rate: int) -> Iterator[np.ndarray]:
    """Mix blocks to one or two channels and resample them.

    In a mix to one, channels in opposite phase to the loudest are turned over where their sum would cancel out.

    Args:
        blocks: rate and channels may change on the way.
        num_channels: 1 or 2.
        rate: Hz of the result.

    Yields:
        (num_channels, n) float32.
    """
    layout = "mono" if num_channels == 1 else "stereo"
    resampler, from_rate = None, rate
    phases, from_channels = None, None
    for block in blocks:
        if num_channels == 1 and len(block.samples) > 1:
            if block.channels != from_channels:
                phases, from_channels = _Phases(mix_weights(block.channels, 1)[0]), block.channels
            mixed = phases.mix(block.samples, block.rate)
        else:
            mixed = mix(block.samples, block.channels, num_channels)
        if block.rate != from_rate:
            yield from _resampled(resampler, None)
            resampler = av.AudioResampler("fltp", layout, rate) if block.rate != rate else None
            from_rate = block.rate
        if resampler is None:
            yield mixed
        elif mixed.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mixed), "fltp", layout)
            frame.sample_rate = block.rate
            yield from _resampled(resampler, frame)
    yield from _resampled(resampler, None)


def mix(samples: np.ndarray, channels: tuple[str, ...], num_channels: int) -> np.ndarray:
    """Mix (C, n) samples down to one or two channels, never louder than the loudest channel.

    Args:
        samples: (C, n).
        channels: FFmpeg's names of the C channels.
        num_channels: 1 or 2.

    Returns:
        (num_channels, n) float32.
    """
    if len(samples) == num_channels:
        return samples
    if len(samples) == 1:
        return np.repeat(samples, num_channels, 0)
    return mix_weights(channels, num_channels) @ samples


def mix_weights(channels: tuple[str, ...], num_channels: int) -> np.ndarray:
    """(num_channels, C) float32 share of each of C channels in a mix to one or two."""
    count = len(channels)
    names = channels if "NONE" not in channels else _USUAL_LAYOUT.get(count, ())
    left = np.array([_TO_LEFT.get(name, 0.5) for name in names] or [1.0] * count)
    right = np.array([_TO_LEFT.get(_MIRROR.get(name, name), 0.5) for name in names] or [1.0] * count)
    rows = np.stack([left + right] if num_channels == 1 else [left, right])
    if not rows.any():
        rows = np.ones_like(rows)
    return (rows / rows.sum(1).max()).astype(np.float32)


class _Phases:
    """Mix of C channels to one, in which those of opposite phase to the loudest are turned over rather than lost."""

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights.astype(np.float64)
        self._signs = np.ones(len(weights))
        self._powers = np.zeros((len(weights), len(weights)))  # of the last moments, weighted, and what they share
        self._begun = False

    def mix(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """(1, n) float32 of (C, n) samples."""
        step = max(1, round(PHASE_S / 2 * rate))
        pieces = [self._piece(samples[:, at : at + step], rate) for at in range(0, samples.shape[1], step)]
        return np.concatenate(pieces, 1) if pieces else np.zeros((1, 0), np.float32)

    def _piece(self, samples: np.ndarray, rate: int) -> np.ndarray:
        signs, count = self._signs, samples.shape[1]
        weighted = samples * self._weights[:, None]
        self._powers = self._powers * math.exp(-count / (PHASE_S * rate)) + weighted @ weighted.T
        self._signs = self._chosen()
        gains = (self._signs * self._weights).astype(np.float32)
        mixed = gains @ samples
        if self._begun and signs is not self._signs:
            fade = np.linspace(1, 0, min(count, max(1, round(FADE_S * rate))), dtype=np.float32)
            other = (signs * self._weights).astype(np.float32) @ samples[:, : len(fade)]
            mixed[: len(fade)] += fade * (other - mixed[: len(fade)])
        self._begun = True
        return mixed[None]

    def _chosen(self) -> np.ndarray:
        """Signs of the channels; those in use while they do."""
        plain = np.ones(len(self._signs))
        turned = np.where(self._powers[self._powers.diagonal().argmax()] < 0, -1.0, 1.0)
        turned *= turned[0]  # the first channel stays as it is
        power, best = self._power(self._signs), self._power(turned)
        if power * CANCEL < best:
            if (turned < 0).any():
                log.info("channels are in opposite phase; %d of %d are turned over.", (turned < 0).sum(), len(turned))
            return turned
        return plain if (self._signs < 0).any() and 2 * self._power(plain) > best else self._signs

    def _power(self, signs: np.ndarray) -> float:
        return float(signs @ self._powers @ signs)


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
    if resampler is None:
        return
    for resampled in resampler.resample(frame):
        yield resampled.to_ndarray()
