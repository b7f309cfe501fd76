"""Sound source of a video: a file, a speech or a waveform, at its own rate and channels, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..checks import check_finite, check_range
from ..errors import InputError
from ..types import Speech
from .audio import MAX_RATE_HZ, MIN_RATE_HZ
from .sound import Block, SoundFile, mix_blocks, tensor_blocks

AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000)
USUAL_RATE_HZ = 48_000

Sound = Path | Speech | tuple[Tensor, int] | None


class SoundTrack:
    """Sequential reader of a sound, with silence after its end.

    One or two channels are kept, more are mixed down to two. A rate that AAC does not know becomes 48 kHz, and one
    below 16 kHz does too: an AAC frame would last longer there than a frame of video.

    Args:
        sound: a file whose first sound track is taken, speech, or (waveform (C, N), rate in Hz).

    Raises:
        MediaError: the file cannot be read or has no sound.
        InputError: not a waveform.
    """

    def __init__(self, sound: Path | str | Speech | tuple[Tensor, int]) -> None:
        self._file: SoundFile | None = None
        if isinstance(sound, (str, Path)):
            self._file = SoundFile(Path(sound))
            rate, num_channels, blocks = self._file.rate, self._file.num_channels, self._file.blocks()
        else:
            waveform, rate = _waveform_of(sound)
            num_channels, blocks = len(waveform), tensor_blocks(waveform, rate)
        self.rate = rate if rate in AAC_RATES_HZ else USUAL_RATE_HZ
        self.num_channels = min(num_channels, 2)
        self._blocks = mix_blocks(_without_nan(blocks), self.num_channels, self.rate)
        self._waiting: list[np.ndarray] = []

    def read(self, count: int) -> np.ndarray:
        """The next `count` samples, (C, count) float32."""
        have = sum(block.shape[1] for block in self._waiting)
        while have < count:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self.num_channels, count - have), np.float32)
            self._waiting.append(block)
            have += block.shape[1]
        joined = np.concatenate(self._waiting, 1) if self._waiting else np.zeros((self.num_channels, 0), np.float32)
        self._waiting = [joined[:, count:]]
        return np.ascontiguousarray(joined[:, :count])

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def _waveform_of(sound: Speech | tuple[Tensor, int]) -> tuple[Tensor, int]:
    if isinstance(sound, Speech):
        return sound.waveform[None], sound.sample_rate
    if not isinstance(sound, tuple) or len(sound) != 2 or not isinstance(sound[0], Tensor):
        received = type(sound).__name__
        raise InputError(f"the video's sound must be a file, speech or (waveform, sample rate), not {received}.")
    waveform, rate = sound
    if waveform.ndim != 2 or not waveform.dtype.is_floating_point or 0 in waveform.shape:
        received = f"{tuple(waveform.shape)} {waveform.dtype}"
        raise InputError(f"the video's sound must be a float waveform of shape (channels, samples), not {received}.")
    check_finite(waveform, "the video's sound")
    return waveform, int(check_range(rate, MIN_RATE_HZ, MAX_RATE_HZ, "the sample rate of the video's sound"))


def _without_nan(blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:  # the encoder would refuse them after minutes of work
        yield block._replace(samples=np.nan_to_num(block.samples, posinf=1, neginf=-1))
