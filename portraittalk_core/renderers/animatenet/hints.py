"""ControlNet hint pictures of a landmark track, drawn on demand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ...checks import check_choice
from ...errors import InputError
from ...types import LandmarkTrack
from .landmark_control import MIN_FACE_PX, STYLES, draw_condition

log = logging.getLogger(__name__)

Hints = Callable[[Sequence[int], int, int], Tensor]  # frame numbers, H, W → (B, 3, H, W) float 0..1
SHAPE_TOLERANCE = 0.02  # of the aspect ratio
CACHE_SIZE = 128  # drawings: those of the current frames are needed at every step


def track_hints(track: LandmarkTrack, style: str = "mediapipe_face") -> Hints:
    """Function that draws the hint pictures of a track's frames.

    Args:
        track: on the picture that is painted.
        style: one of `landmark_control.STYLES`.

    Returns:
        hints(frame numbers, H, W) → (B, 3, H, W) float 0..1. Frames behind the track's end show its last; a picture
        of another shape than the track's raises InputError.

    Raises:
        InputError: an unknown style.
    """
    check_choice(style, STYLES, "the drawing's style")
    warned: list[bool] = []

    @lru_cache(CACHE_SIZE)
    def drawing(frame: int, width: int, height: int) -> Tensor:
        return draw_condition(track, frame, width, height, style)

    def hints(frames: Sequence[int], height: int, width: int) -> Tensor:
        check_shape_of(track, width, height)
        pictures = [drawing(min(frame, len(track) - 1), width, height) for frame in frames]
        if not warned and not any(picture.any() for picture in pictures):
            warned.append(True)
            log.warning("the face is less than %d pixels in the frames and is not drawn; cut closer.", MIN_FACE_PX)
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255

    return hints


def check_shape_of(track: LandmarkTrack, width: int, height: int) -> None:
    """Check that a picture has the track's aspect ratio.

    Raises:
        InputError: with both sizes.
    """
    if abs(width * track.height / (height * track.width) - 1) > SHAPE_TOLERANCE:
        raise InputError(
            f"the landmarks belong to a picture of {track.width}×{track.height}, the frames are {width}×{height}: cut "
            "the picture to the same shape first."
        )
