"""Sound as a stream of float blocks: decoded, mixed down and resampled without ever holding all of it.

Blocks are (C, n) float32 arrays in -1..1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from torch import Tensor

from ..errors import MediaError
from .files import open_media

log = logging.getLogger(__name__)

# How loud each channel is on the left of a stereo mix; the right mirrors it (ITU-R BS.775: 3 dB less from elsewhere).
_HALF_POWER = math.sqrt(0.5)
_TO_LEFT = {"FL": 1.0, "FC": _HALF_POWER, "SL": _HALF_POWER, "BL": _HALF_POWER, "BC": 0.5, "FLC": 1.0, "LFE": 0.0}
_MIRROR = {"FL": "FR", "SL": "SR", "BL": "BR", "FLC": "FRC"}
_TO_LEFT |= {right: 0.0 for right in _MIRROR.values()}
_MIRROR |= {right: left for left, right in _MIRROR.items()}
# What a file that does not name its channels means by so many of them.
_USUAL_LAYOUT = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}
_UNKNOWN_SIZE = 0x7FFFF000  # writers that stream put this or more into a WAV header


class Block(NamedTuple):
    """A stretch of sound as it was recorded."""

    samples: np.ndarray  # (C, n) float32
    rate: int  # Hz
    channels: tuple[str, ...]  # FFmpeg's names, "NONE" where the file has none


class SoundFile:
    """The first sound track of a file, decoded block by block.

    Raises:
        MediaError: missing, empty, unreadable, or without sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._container = open_media(self.path)
        if not self._container.streams.audio:
            content = "a video without sound" if self._container.streams.video else "not a sound file"
            self.close()
            raise MediaError(f"{self.path} is {content}; give a file with speech in it, such as a WAV or MP3.")
        self._stream = self._container.streams.audio[0]
        self.rate: int = self._stream.codec_context.sample_rate
        self.num_channels: int = self._stream.codec_context.channels
        self.seconds = 0.0  # decoded so far
        self.num_damaged = 0  # parts that could not be decoded
        self.error = ""  # what ended the reading before the end of the file

    def blocks(self) -> Iterator[Block]:
        """Decoded blocks, without the damaged parts."""
        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                self.num_damaged += 1
                self.error = self.error or str(error)
                continue
            for frame in frames:
                self.seconds += frame.samples / frame.sample_rate
                names = tuple(channel.name for channel in frame.layout.channels)
                yield Block(_float_planes(frame), frame.sample_rate, names)

    @property
    def expected_s(self) -> float:
        """Length that the file claims, or what was decoded where it claims none or only guesses."""
        if self._container.format.name in ("aac", "mp3"):
            return self.seconds
        if self._stream.duration:
            share = self._share_of_wav() if self._container.format.name == "wav" else 1.0
            return float(self._stream.duration * self._stream.time_base) / share
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / av.time_base
        return self.seconds

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:  # a file that breaks off inside its structure
                self.num_damaged += 1
                self.error = self.error or str(error)
                return
            if packet is None:
                return
            yield packet

    def _share_of_wav(self) -> float:
        """Fraction of a WAV file that is present; FFmpeg takes its length from the file's size and misses the loss."""
        with self.path.open("rb") as file:
            head = file.read(8)
        claimed = int.from_bytes(head[4:8], "little") + 8
        if head[:4] != b"RIFF" or not 8 < claimed < _UNKNOWN_SIZE:
            return 1.0
        return min(1.0, self.path.stat().st_size / claimed)


def tensor_blocks(waveform: Tensor, rate: int) -> Iterator[Block]:
    """A (C, N) waveform in memory as blocks of a second."""
    names = _USUAL_LAYOUT.get(len(waveform), ("NONE",) * len(waveform))
    for start in range(0, waveform.shape[1], rate):
        samples = waveform[:, start : start + rate].detach().float().cpu().numpy()
        yield Block(samples, rate, names)


def mix_blocks(blocks: Iterable[Block], num_channels: int, rate: int) -> Iterator[np.ndarray]:
    """Mix blocks to one or two channels and resample them.

    Args:
        blocks: rate and channels may change on the way.
        num_channels: 1 or 2.
        rate: Hz of the result.

    Yields:
        (num_channels, n) float32.
    """
    layout = "mono" if num_channels == 1 else "stereo"
    resampler, from_rate = None, rate
    for block in blocks:
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
    names = channels if "NONE" not in channels else _USUAL_LAYOUT.get(len(samples), ())
    left = np.array([_TO_LEFT.get(name, 0.5) for name in names] or [1.0] * len(samples))
    right = np.array([_TO_LEFT.get(_MIRROR.get(name, name), 0.5) for name in names] or [1.0] * len(samples))
    rows = np.stack([left + right] if num_channels == 1 else [left, right])
    if not rows.any():
        rows = np.ones_like(rows)
    return (rows / rows.sum(1).max()).astype(np.float32) @ samples


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
    if resampler is None:
        return
    for resampled in resampler.resample(frame):
        yield resampled.to_ndarray()


def _float_planes(frame: av.AudioFrame) -> np.ndarray:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32)
