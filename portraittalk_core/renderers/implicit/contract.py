"""Interface of keypoint models: keypoints of a face, appearance features, and pictures of moved keypoints."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from ...types import KeypointTrack


@dataclass(frozen=True)
class Keypoints:
    """Implicit keypoints of B faces, taken apart as a motion extractor returns them.

    Lengths are in units of the face crop, -1..1 from side to side.
    """

    canonical: Tensor  # (B, K, 3) keypoints of the neutral face, seen from the front: identity without motion
    rotation_deg: Tensor  # (B, 3) pitch, yaw, roll
    translation: Tensor  # (B, 3)
    scale: Tensor  # (B,); 1 in families without one
    expression: Tensor  # (B, K, 3)

    def __len__(self) -> int:
        return len(self.canonical)

    def with_motion(self, track: KeypointTrack) -> Keypoints:
        """The same identity with the motion of a track of T frames; `self` is one face."""
        device, dtype = self.canonical.device, self.canonical.dtype
        names = ("rotation_deg", "translation", "scale", "expression")
        motion = {name: getattr(track, name).to(device, dtype) for name in names}
        return replace(self, canonical=self.canonical[:1].expand(len(track), -1, -1), **motion)

    def __getitem__(self, index: int | slice) -> Keypoints:
        at = slice(index, index + 1) if isinstance(index, int) else index
        return Keypoints(*(getattr(self, field.name)[at] for field in fields(self)))

    @staticmethod
    def cat(parts: list[Keypoints]) -> Keypoints:
        """Faces of several extractions one after another."""
        return Keypoints(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Keypoints)))


@dataclass(frozen=True)
class CropRule:
    """How a family frames the face for its networks."""

    scale: float  # side of the crop square, relative to the larger side of the upright box of the face's points
    shift_y: float  # of the crop's centre along the face's own vertical axis, relative to the side; negative is up
    upright: bool  # the crop is turned so that the face stands upright (LivePortrait); else it is an upright square


class KeypointModel(Protocol):
    """A family's networks: extractor, appearance, generator; eval mode, no gradients kept."""

    layout: str  # of KeypointTrack: "liveportrait-21" or "face-vid2vid-15"
    crop: CropRule
    input_size: int  # side of the crops that `keypoints` and `features` take
    output_size: int  # side of the pictures that `render` gives
    device: torch.device
    dtype: torch.dtype

    def keypoints(self, crops: Tensor) -> Keypoints:
        """Keypoints of (B, 3, input_size, input_size) crops, RGB float 0..1; returned in float32."""

    def features(self, crop: Tensor) -> Tensor:
        """Appearance volume of one crop (1, 3, input_size, input_size); encoded once a source picture."""

    def place(self, keypoints: Keypoints) -> Tensor:
        """(B, K, 3) float32 keypoints in the crop, by the family's convention of angles and of the order of terms."""

    def render(self, features: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """(B, 3, output_size, output_size) float 0..1: the source face at driving keypoints.

        Args:
            features: (1, ...) of `features`, or (B, ...).
            source: (1, K, 3) or (B, K, 3) placed keypoints of the source crop.
            driving: (B, K, 3) placed keypoints of the pictures to make.
        """


class Retargeting(Protocol):
    """Small networks beside a keypoint model that LivePortrait has and face-vid2vid has not."""

    def stitch(self, source: Tensor, driving: Tensor) -> Tensor:
        """(B, K, 3) driving keypoints moved so that shoulders and border stay where the source has them."""

    def lips(self, source: Tensor, source_ratio: Tensor, wanted_ratio: Tensor) -> Tensor:
        """(B, K, 3) displacement of the placed source keypoints that opens the lips to a ratio.

        Args:
            source: (B, K, 3) placed keypoints.
            source_ratio: (B,) inner-lip gap over the distance of the mouth corners, now.
            wanted_ratio: (B,) the same, wanted.
        """

    def eyes(self, source: Tensor, source_ratio: Tensor, wanted_ratio: Tensor) -> Tensor:
        """(B, K, 3) displacement that opens the eyes to a ratio: `source_ratio` (B, 2) left and right, wanted (B,)."""
