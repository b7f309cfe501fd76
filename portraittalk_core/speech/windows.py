"""Windows of HuBERT rows around the frames of a clip, streamed: memory does not grow with the clip.

Source: ControlTalk (arXiv 2406.02880) and its public code: frame i sees the rows from round(50·i/fps) on, 18 of them
(360 ms), so it hears what comes, not what was.

Shapes: T frames, D feature channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Progress
from ..types import SPEECH_RATE_HZ, Speech
from .wave import HOP, TAIL, clip_normalisation

ROWS = 18  # of a window: 360 ms
RATE_HZ = SPEECH_RATE_HZ // HOP  # rows a second: 50
SILENT_SECONDS, SILENT_LEVEL = 1, 2  # of the made silence; its loudest sample in steps of 16-bit sound
SILENT_SEED = 0


class WaveEncoderLike(Protocol):
    """Protocol of `encoders.WaveEncoder`."""

    name: str

    def stream(
        self,
        speech: Speech,
        silence: int = 0,
        normalisation: tuple[Tensor, Tensor] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """(f, D) features chunk by chunk."""


def window_start(frame: int, fps: Fraction) -> int:
    """First row of a frame's window: round(50·frame/fps), in exact arithmetic; below 0 before the clip's beginning."""
    return round(Fraction(RATE_HZ * frame) / fps)


def missing_samples(samples: int, frames: int, fps: Fraction, rows: int = ROWS) -> int:
    """Samples of silence that a clip needs at its end so that its last frame has a whole window.

    Args:
        samples: of the clip at 16 kHz.
        frames: how many are to have a window.
        fps: their rate.
        rows: of a window.
    """
    needed = window_start(frames - 1, fps) + rows
    return max(HOP * needed + TAIL - samples, 0)


def made_silence() -> Speech:
    """1 s of noise of −2..2 steps of 16-bit sound, always the same: what a quiet room leaves in a recording."""
    generator = torch.Generator().manual_seed(SILENT_SEED)
    steps = torch.randint(-SILENT_LEVEL, SILENT_LEVEL + 1, (SILENT_SECONDS * SPEECH_RATE_HZ,), generator=generator)
    return Speech(steps.float() / 2**15, "the made silence")


def windows_of(rows: Tensor, frames: int, fps: Fraction, size: int = ROWS) -> Tensor:
    """Windows of the first frames of a clip whose rows are at hand.

    Args:
        rows: (F, D) features of the clip, with silence at its end as `missing_samples` says.
        frames: how many.
        fps: their rate.
        size: rows of a window.

    Returns:
        (frames, size, D).

    Raises:
        InputError: the rows do not reach to the end of the last window.
    """
    starts = torch.tensor([window_start(frame, fps) for frame in range(frames)])
    needed = int(starts[-1]) + size
    if needed > len(rows):
        raise InputError(
            f"{frames} frames at {float(fps):g} fps need {needed} rows of speech, and {len(rows)} are here."
        )
    return rows[starts[:, None] + torch.arange(size)]


class WindowStream:
    """Windows of the frames of one clip, taken in order; rows behind them are forgotten."""

    def __init__(
        self,
        encoder: WaveEncoderLike,
        speech: Speech,
        fps: Fraction,
        offset: int = 0,
        silence: Speech | None = None,
        on_progress: Progress | None = None,
        rows: int = ROWS,
    ) -> None:
        """Encode the silence at once; the clip is encoded as its frames are taken.

        Args:
            encoder: HuBERT.
            speech: the clip; digital silence is added, so that its last frame has a whole window.
            fps: frames per second.
            offset: frames by which the mouth is later than the sound; below 0 it is earlier.
            silence: a recording in which nobody speaks, normalised by itself as the public code does it; None: noise
                made here and normalised as the clip is, for by itself it would be as loud as speech.
            on_progress: called with the encoder's layers done and in all; may raise to stop.
            rows: of a window.
        """
        self.fps, self.offset, self.size, self.frame = fps, offset, rows, 0
        normalisation = clip_normalisation(speech.waveform) if silence is None else None
        quiet = silence or made_silence()
        missing = missing_samples(quiet.waveform.numel(), 1, fps, rows)
        self._quiet = torch.cat(list(encoder.stream(quiet, missing, normalisation)))
        samples = speech.waveform.numel()
        padding = missing_samples(samples, speech.num_frames(fps), fps, rows)
        self._chunks = encoder.stream(speech, padding, None, on_progress)
        self._rows, self._first, self._ended = self._quiet[:0], 0, False

    @property
    def silence(self) -> Tensor:
        """(rows, D) the window in which nobody speaks."""
        return self._quiet[: self.size]

    def take(self, count: int) -> Tensor:
        """(count, rows, D) windows of the next frames; before and after the clip there is silence."""
        frames = range(self.frame - self.offset, self.frame - self.offset + count)
        self.frame += count
        starts = [window_start(frame, self.fps) for frame in frames]
        first, stop = starts[0], starts[-1] + self.size
        block = self._block(first, stop)
        return block[torch.tensor(starts)[:, None] - first + torch.arange(self.size)]

    def _block(self, start: int, stop: int) -> Tensor:
        """(stop − start, D) rows, silent where the clip has none."""
        while not self._ended and self._first + len(self._rows) < stop:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._rows = torch.cat([self._rows, chunk])
        drop = min(max(start - self._first, 0), len(self._rows))
        self._rows, self._first = self._rows[drop:].clone(), self._first + drop
        end = self._first + len(self._rows)
        leading = self._silent(start, min(stop, self._first)) if start < self._first else self._quiet[:0]
        trailing = self._silent(max(start, end), stop) if stop > end else self._quiet[:0]
        inside = self._rows[max(start - self._first, 0) : max(stop - self._first, 0)]
        return torch.cat([leading, inside, trailing])

    def _silent(self, start: int, stop: int) -> Tensor:
        """(stop − start, D) rows of silence, which repeats."""
        return self._quiet[torch.arange(start, stop) % len(self._quiet)]
