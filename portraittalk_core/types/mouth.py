"""Mouth motion over time, free of any one face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_shape

MOUTH_PARAMETERS = ("opening", "jaw", "width", "rounding", "raise_upper", "tuck", "press")  # fields of MouthCurves


@dataclass(frozen=True)
class MouthCurves:
    """What the mouth does, frame by frame, free of any one face: what a speech predictor writes."""

    kind: ClassVar[str] = "MouthCurves"
    opening: Tensor  # (T,) float32, of the lips, 0 closed .. 1 as wide as this face opens in speech
    jaw: Tensor  # (T,) float32, 0 shut .. 1 dropped as far as in an open vowel
    width: Tensor  # (T,) float32, −1 narrow .. 0 rest .. 1 spread
    rounding: Tensor  # (T,) float32, 0 flat .. 1 lips rounded and pushed forward
    raise_upper: Tensor  # (T,) float32, 0 at rest .. 1 upper lip lifted
    tuck: Tensor  # (T,) float32, 0 relaxed .. 1 lower lip under the upper teeth (labiodentals)
    press: Tensor  # (T,) float32, 0 relaxed .. 1 lips pressed together (bilabials)

    def __post_init__(self) -> None:
        check_shape(self.opening, "T", "mouth opening")
        for name in MOUTH_PARAMETERS[1:]:
            check_shape(getattr(self, name), f"{len(self.opening)}", f"mouth {name}")

    def __len__(self) -> int:
        return len(self.opening)

    @staticmethod
    def closed(num_frames: int) -> MouthCurves:
        """A mouth at rest."""
        return MouthCurves(*(torch.zeros(num_frames) for _ in MOUTH_PARAMETERS))

    @property
    def parting(self) -> Tensor:
        """(T,) lip gap with rounding and pressing applied; 0 closed .. 1 widest."""
        return self.opening * (1 - 0.15 * self.rounding.clamp(0, 1)) * (1 - self.press.clamp(0, 1))
