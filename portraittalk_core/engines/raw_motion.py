"""Raw motion: landmark displacements predicted by an engine's network, before any option is applied."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..types import NUM_LANDMARKS, as_fps


@dataclass(frozen=True)
class RawMotion:
    """Displacement of every landmark from its reference, without head motion."""

    shift_px: Tensor  # (F, 478, 3) float32, pixels of the reference's picture, z on x's scale
    rate: Fraction  # frames per second
    start_s: float | None = None  # time of the first frame; half a frame if None

    def __post_init__(self) -> None:
        check_shape(self.shift_px, f"F {NUM_LANDMARKS} 3", "the engine's motion")
        check_finite(self.shift_px, "the engine's motion")
        object.__setattr__(self, "rate", as_fps(self.rate))

    def __len__(self) -> int:
        return len(self.shift_px)

    @property
    def times_s(self) -> Tensor:
        """(F,) seconds of each frame."""
        start = 0.5 / float(self.rate) if self.start_s is None else self.start_s
        return start + torch.arange(len(self), dtype=torch.float64) / float(self.rate)
