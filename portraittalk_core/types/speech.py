"""A mono speech signal."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError, ShapeError
from ..frame_rate import num_frames_for

SPEECH_RATE_HZ = 16_000


@dataclass(frozen=True)
class Speech:
    """A mono speech signal at 16 kHz."""

    waveform: Tensor  # (N,) float32, −1..1
    source: str = "audio"  # what to call it in messages: a file name or "audio input"
    sample_rate: ClassVar[int] = SPEECH_RATE_HZ

    def __post_init__(self) -> None:
        check_shape(self.waveform, "N", f"the waveform of {self.source}")
        if self.waveform.dtype != torch.float32:
            raise ShapeError(f"the waveform of {self.source} must be float32, not {self.waveform.dtype}.")
        if self.waveform.numel() == 0:
            raise InputError(f"{self.source} holds no sound (0 samples); give a clip with speech in it.")
        check_finite(self.waveform, f"the sound of {self.source}")

    @property
    def seconds(self) -> float:
        return self.waveform.numel() / self.sample_rate

    def num_frames(self, fps: Fraction) -> int:
        """Frames that cover this speech at `fps`."""
        return num_frames_for(self.waveform.numel(), self.sample_rate, fps)
