"""Cuts a portrait, and the landmarks that belong to it, to a given size around the face.

Shapes: H and W of the picture given, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import InputError
from ..media.resize import resize_picture
from ..types import LandmarkTrack, Portrait

SURROUNDINGS = 0.5  # of the face's size, on every side: what a face detector wants to see
FACE_HEIGHT = 0.46  # the face's middle lies this far down, if the picture has room


@dataclass(frozen=True)
class Fit:
    """Crop box of a picture and the size it is resized to."""

    left: int  # pixels of the picture given
    top: int
    box_width: int
    box_height: int
    width: int  # pixels it becomes
    height: int

    def picture(self, picture: Tensor) -> Tensor:
        """(height, width, 3) uint8 of a picture (H, W, 3) uint8; untouched if nothing is to be done."""
        if tuple(picture.shape[:2]) == (self.height, self.width):
            return picture
        cut = picture[self.top : self.top + self.box_height, self.left : self.left + self.box_width]
        return resize_picture(cut, (self.height, self.width)).contiguous()

    def track(self, track: LandmarkTrack) -> LandmarkTrack:
        """The landmarks of a track on the whole picture, on the box."""
        scale = torch.tensor([track.width / self.box_width, track.height / self.box_height, 0.0])
        scale[2] = scale[0]  # depth is on x's scale
        shift = torch.tensor([self.left / self.box_width, self.top / self.box_height, 0.0])
        return replace(track, points=track.points * scale - shift, width=self.width, height=self.height)


def check_size(width: int, height: int) -> None:
    """Check the size of a picture that SD1.5 is to make.

    Raises:
        InputError: not a multiple of 8, or outside of 64..2048.
    """
    for value, name in ((width, "width"), (height, "height")):
        check_range(value, 64, 2048, name)
        if value % 8:
            raise InputError(
                f"{name} must be a multiple of 8, not {value}; {value // 8 * 8} and {value // 8 * 8 + 8} are near."
            )


def fit_to(portrait: Portrait, width: int, height: int) -> Fit:
    """Largest box of the requested aspect ratio inside the picture, centred on the face as far as possible.

    Raises:
        InputError: a size that SD1.5 cannot make.
    """
    check_size(width, height)
    picture_height, picture_width = portrait.picture.shape[:2]
    scale = min(picture_width / width, picture_height / height)
    box_width, box_height = round(width * scale), round(height * scale)
    points = portrait.landmarks.points_px[0, :, :2]
    middle_x, middle_y = ((points.amin(0) + points.amax(0)) / 2).tolist()
    left = min(max(round(middle_x - box_width / 2), 0), picture_width - box_width)
    top = min(max(round(middle_y - FACE_HEIGHT * box_height), 0), picture_height - box_height)
    return Fit(left, top, box_width, box_height, width, height)


def face_surroundings(portrait: Portrait) -> Tensor:
    """The portrait's picture around its face, (h, w, 3) uint8: in a group, the one that is meant is the largest."""
    points, size = portrait.landmarks.points_px[0, :, :2], portrait.picture.shape[1::-1]
    low, high = points.amin(0), points.amax(0)
    room = SURROUNDINGS * (high - low).max()
    left, top = (low - room).floor().long().clamp(min=0).tolist()
    right, bottom = (int(min(end, side)) for end, side in zip((high + room).ceil().tolist(), size, strict=True))
    return portrait.picture[top:bottom, left:right].contiguous()


def fitted(portrait: Portrait, fit: Fit) -> Portrait:
    """The portrait on the box."""
    return replace(portrait, picture=fit.picture(portrait.picture), landmarks=fit.track(portrait.landmarks))
