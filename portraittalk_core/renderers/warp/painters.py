"""What is painted over a warped face: the contract of painters, and what they know about a frame.

Shapes: h, w the box of pixels that may move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...face.aperture import LEFT_EYE, MOUTH, RIGHT_EYE, Aperture, Box


@dataclass(frozen=True)
class FramePose:
    """The face in one frame; lengths in pixels of the whole picture."""

    points: Tensor  # (478, 2) landmarks
    head: Tensor  # (3, 2) affine that takes portrait positions (x, y, 1) to where the head carries them
    mouth: Aperture
    eyes: tuple[Aperture, Aperture]  # right, left
    came_from: Tensor | None = None  # (2, h, w) where each pixel of the box came from, −1..1 of the box; once warped

    @staticmethod
    def of(points: Tensor, head: Tensor) -> FramePose:
        """The pose that landmarks (478, 2) and a head's affine (3, 2) show."""
        eyes = (Aperture.of(points, RIGHT_EYE), Aperture.of(points, LEFT_EYE))
        return FramePose(points, head, Aperture.of(points, MOUTH), eyes)


class Painter(Protocol):
    """Paints one part of a face over the warped picture."""

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """Change a frame in place.

        Args:
            region: (3, h, w) float 0..255, already warped; its first pixel is the box's.
            pose: the face in this frame.
        """


def within(part: Box, box: Box) -> tuple[slice, slice]:
    """Rows and columns of `part`, a box of pixels, in a region that shows `box`."""
    return slice(part[1] - box[1], part[3] - box[1]), slice(part[0] - box[0], part[2] - box[0])
