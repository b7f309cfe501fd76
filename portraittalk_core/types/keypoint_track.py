"""The second hub record: one face's implicit keypoints over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_range, check_shape
from ..errors import InputError, ShapeError
from ..frame_rate import as_fps
from .record import Record, check_record_kind

KEYPOINT_LAYOUTS = {"face-vid2vid-15": 15, "liveportrait-21": 21}  # how many keypoints each has


@dataclass(frozen=True)
class KeypointTrack:
    """One face's implicit keypoints over time, free of identity, for renderers with learnt keypoints.

    A renderer places its own canonical keypoints by it: scale · (rotation of the canonical + expression) + translation,
    in the order of its layout. All lengths are in units of the face crop, −1..1 from side to side; which way an angle
    counts, and at which place expression is added, is the layout's convention. Two layouts cannot be exchanged: their
    keypoints lie at other places of the face.
    """

    kind: ClassVar[str] = "KeypointTrack"
    expression: Tensor  # (T, K, 3) float32: displacement of every keypoint by the expression
    rotation_deg: Tensor  # (T, 3) float32: pitch, yaw, roll of the head
    translation: Tensor  # (T, 3) float32
    scale: Tensor  # (T,) float32, above 0
    valid: Tensor  # (T,) bool: False where no face was seen and the motion is held or interpolated
    fps: Fraction
    layout: str  # "face-vid2vid-15" or "liveportrait-21"

    def __post_init__(self) -> None:
        check_choice(self.layout, tuple(KEYPOINT_LAYOUTS), "the layout of a keypoint track")
        of = f"of a {self.layout} track"
        check_shape(self.expression, f"T {KEYPOINT_LAYOUTS[self.layout]} 3", f"the expression {of}")
        frames = len(self.expression)
        if not frames:
            raise ShapeError("a keypoint track needs at least one frame, and this one has none.")
        check_shape(self.rotation_deg, f"{frames} 3", f"the rotation {of}")
        check_shape(self.translation, f"{frames} 3", f"the translation {of}")
        check_shape(self.scale, f"{frames}", f"the scale {of}")
        check_shape(self.valid, f"{frames}", f"the valid flags {of}")
        if self.valid.dtype != torch.bool:
            raise ShapeError(f"the valid flags {of} must be bool, not {self.valid.dtype}.")
        for name in ("expression", "rotation_deg", "translation", "scale"):
            values = getattr(self, name)
            if values.dtype != torch.float32:
                raise ShapeError(f"{name} {of} must be float32, not {values.dtype}.")
            check_finite(values, f"{name} {of}")
        check_range(float(self.rotation_deg.abs().max()), 0, 180, f"the largest angle {of}")
        if float(self.scale.min()) <= 0:
            raise InputError(f"the scale {of} must be above 0, but falls to {float(self.scale.min()):g}.")
        object.__setattr__(self, "fps", as_fps(self.fps))

    def __len__(self) -> int:
        return len(self.expression)

    @property
    def seconds(self) -> float:
        return float(len(self) / self.fps)

    @property
    def num_keypoints(self) -> int:
        """K of the layout."""
        return self.expression.shape[1]

    def slice(self, start: int, stop: int) -> KeypointTrack:
        """Frames start..stop-1 as a track of their own."""
        names = ("expression", "rotation_deg", "translation", "scale", "valid")
        return replace(self, **{name: getattr(self, name)[start:stop] for name in names})

    def check_layout(self, layout: str) -> KeypointTrack:
        """Check that the track is of a layout and return it.

        Raises:
            InputError: with both layouts.
        """
        if self.layout != layout:
            raise InputError(
                f"this keypoint track is of the layout {self.layout}, but {layout} is needed; make the track with a "
                f"{layout} model, for keypoints of one layout mean nothing in the other."
            )
        return self

    def to_record(self) -> Record:
        """Tensors and metadata of a track file."""
        tensors = {
            "expression": self.expression,
            "rotation_deg": self.rotation_deg,
            "translation": self.translation,
            "scale": self.scale,
            "valid": self.valid,
        }
        fps = f"{self.fps.numerator}/{self.fps.denominator}"
        return tensors, {"kind": self.kind, "fps": fps, "layout": self.layout}

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> KeypointTrack:
        """The track of a file's tensors and metadata.

        Raises:
            InputError: another kind of record, or a part is missing.
        """
        check_record_kind(metadata, cls.kind)
        names = ("expression", "rotation_deg", "translation", "scale", "valid")
        missing = [name for name in names if name not in tensors]
        missing += [name for name in ("fps", "layout") if name not in metadata]
        if missing:
            raise InputError(f"a keypoint track needs {', '.join(missing)}, which this file lacks.")
        return cls(*(tensors[name] for name in names), as_fps(metadata["fps"]), metadata["layout"])
