"""Square crops of pictures and landmarks for training."""

from __future__ import annotations

import torch
from torch import Tensor

from ...face.geometry import face_box_px
from ...media.resize import resize_planes
from ...types import LandmarkTrack


def crop_square(track: LandmarkTrack, margin: float) -> tuple[tuple[int, int], int]:
    """Upper left corner (x, y) and side, in pixels, of one square that holds the face in all frames.

    It is `margin` times as large as the box in which the face moves, or as the picture allows.
    """
    boxes = face_box_px(track.points_px[track.valid])
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0)
    side = min(round(float((high - low).max()) * margin), track.width, track.height)
    middle = ((low + high) / 2).tolist()
    x, y = (
        min(max(round(at - side / 2), 0), length - side)
        for at, length in zip(middle, (track.width, track.height), strict=True)
    )
    return (x, y), side


def track_on_crop(track: LandmarkTrack, corner: tuple[int, int], side: int, size: int) -> LandmarkTrack:
    """Transform landmarks to a square crop scaled to `size` pixels."""
    points = (track.points_px - torch.tensor([*corner, 0], dtype=torch.float32)) * (size / side)
    return LandmarkTrack.from_px(points, size, size, track.fps, track.valid)


def fit_square(picture: Tensor, side_px: int) -> Tensor:
    """Centre crop of a picture (3, H, W) in −1..1, scaled to (3, S, S)."""
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    middle = picture[None, :, top : top + side, left : left + side]
    return middle[0] if side == side_px else resize_planes(middle, (side_px, side_px))[0].clamp(-1, 1)
