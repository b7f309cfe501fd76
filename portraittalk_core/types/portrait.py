"""A picture with the landmarks of its face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_shape
from ..errors import InputError, ShapeError
from .landmark_track import LandmarkTrack


@dataclass(frozen=True)
class Portrait:
    """A picture and the landmarks of the one face in it that is to speak."""

    picture: Tensor  # (H, W, 3) uint8 RGB
    landmarks: LandmarkTrack  # T = 1, of the same width and height
    source: str = "portrait"  # what to call it in messages

    def __post_init__(self) -> None:
        check_picture(self.picture, self.source)
        height, width = self.picture.shape[:2]
        if len(self.landmarks) != 1 or (self.landmarks.width, self.landmarks.height) != (width, height):
            received = f"{len(self.landmarks)} frames at {self.landmarks.width}×{self.landmarks.height}"
            raise InputError(f"{self.source} needs one frame of landmarks at {width}×{height}, got {received}.")


def check_picture(picture: Tensor, name: str) -> Tensor:
    """Check a streamed picture, (H, W, 3) uint8 RGB, and return it.

    Raises:
        ShapeError: another shape or type.
    """
    check_shape(picture, "H W 3", name)
    if picture.dtype != torch.uint8:
        raise ShapeError(f"{name} must be uint8 (0..255), not {picture.dtype}.")
    return picture
