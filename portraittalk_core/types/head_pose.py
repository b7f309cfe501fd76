"""Head rotation, position and size over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..checks import check_shape
from .record import Record, check_record_kind


@dataclass(frozen=True)
class HeadPose:
    """Head rotation, position and size over time."""

    kind: ClassVar[str] = "HeadPose"
    angles_deg: Tensor  # (T, 3) float32: pitch (+ looks down), yaw (+ turns to the viewer's right), roll (+ clockwise)
    translation: Tensor  # (T, 3) float32, in units of the canonical face's inter-ocular distance
    scale: Tensor  # (T,) float32, pixels per inter-ocular distance

    def __post_init__(self) -> None:
        check_shape(self.angles_deg, "T 3", "head angles")
        check_shape(self.translation, f"{len(self.angles_deg)} 3", "head translation")
        check_shape(self.scale, f"{len(self.angles_deg)}", "head scale")

    def __len__(self) -> int:
        return len(self.angles_deg)

    def to_record(self) -> Record:
        """Tensors and metadata of a head pose file."""
        tensors = {"angles_deg": self.angles_deg, "translation": self.translation, "scale": self.scale}
        return tensors, {"kind": self.kind}

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> HeadPose:
        """The head pose of a file's tensors and metadata."""
        check_record_kind(metadata, cls.kind)
        return cls(tensors["angles_deg"], tensors["translation"], tensors["scale"])
