"""Crops that IP-LAP's landmark generator sees faces in, and the faces it takes as references.

Shapes: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...face.lip_points import LIP_POINTS, OPENING
from ...memory_map import release_memory
from ...types import LandmarkTrack

CROP_MARGIN_PX = 25.0  # around the points, as in the public inference (training had 5, of smaller pictures)
NUM_REFERENCES = 15
BLOCK = 256  # frames that are looked at at once


@dataclass(frozen=True)
class FaceCrop:
    """Crop rectangle that maps to the network's unit square; or one for each of T frames."""

    corner_px: Tensor  # (2,) or (T, 2) float64, x and y of the upper left corner
    size_px: Tensor  # (2,) or (T, 2) float64, width and height

    def __getitem__(self, frames: int | slice | Tensor) -> FaceCrop:
        return FaceCrop(self.corner_px[frames], self.size_px[frames])

    def to_unit(self, points_px: Tensor) -> Tensor:
        """(…, N, 2) float32 pixels, or float64, to the unit square, float32."""
        return ((points_px.double() - self.corner_px[..., None, :]) / self.size_px[..., None, :]).float()

    def to_px(self, points: Tensor) -> Tensor:
        """(…, N, 2) of the unit square to pixels, float64."""
        return points.double() * self.size_px[..., None, :] + self.corner_px[..., None, :]


def face_crops(track: LandmarkTrack, margin_px: float = CROP_MARGIN_PX) -> FaceCrop:
    """The crop around each of T faces: what the network's points span and a margin, in whole pixels of the picture.

    The crop of a face outside the picture, as it may be interpolated where none is seen, lies outside too.
    """
    ends, spans = torch.tensor([track.width, track.height], dtype=torch.float64), []
    for points in track.points.split(BLOCK):
        lips = points[:, list(LIP_POINTS), :2].double()
        spans.append(torch.stack([lips.amin(1), lips.amax(1)]))
        release_memory()
    lowest, highest = torch.cat(spans, 1)
    around = ((lowest - margin_px / ends) * ends, (highest + margin_px / ends) * ends)
    low, high = (torch.minimum(side.clamp(min=0), ends).floor() for side in around)
    outside = ~(high > low).all(1, keepdim=True)
    low, high = torch.where(outside, around[0].floor(), low), torch.where(outside, around[1].floor() + 1, high)
    return FaceCrop(low, high - low)


def face_crop(reference: LandmarkTrack, frame: int, margin_px: float = CROP_MARGIN_PX) -> FaceCrop:
    """The crop around one frame's face, see `face_crops`.

    Raises:
        InputError: nothing of the face lies in the picture.
    """
    crop = face_crops(reference.slice(frame, frame + 1), margin_px)[0]
    ends = torch.tensor([reference.width, reference.height], dtype=torch.float64)
    if not bool(((crop.corner_px < ends) & (crop.corner_px + crop.size_px > 0)).all()):
        points = reference.points_px[frame, list(LIP_POINTS), :2]
        (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
        raise InputError(
            f"the reference's face lies at x {left:.0f}..{right:.0f}, y {top:.0f}..{bottom:.0f}, outside its picture "
            f"of {reference.width}×{reference.height}; use landmarks of this picture."
        )
    return crop


def unit_points(track: LandmarkTrack, crops: FaceCrop, points: tuple[int, ...], frames: Tensor) -> Tensor:
    """(F, N, 2) float32 some points of some frames, each in the unit square of its own crop.

    Args:
        track: T frames.
        crops: of all of them.
        points: mesh indices.
        frames: (F,) numbers.
    """
    ends = torch.tensor([track.width, track.height], dtype=torch.float64)
    return crops[frames].to_unit(track.points[frames][:, list(points), :2].double() * ends)


def reference_frames(reference: LandmarkTrack, count: int = NUM_REFERENCES) -> Tensor:
    """(R,) reference frames: from the most closed mouth to the most open one, in equal steps of rank.

    Frames that do not show the face count where no other does.
    """
    valid_frames = torch.nonzero(reference.valid).flatten() if reference.valid.any() else torch.arange(len(reference))
    upper, lower = (reference.points[valid_frames, point, :2].double() for point in OPENING)
    order = valid_frames[(upper - lower).norm(dim=1).argsort(stable=True)]
    return order[torch.linspace(0, len(order) - 1, count).long()]
