"""What is painted over a warped face: the contract of painters, and what they know about a frame.

Shapes: h, w the box of pixels that may move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...face.aperture import LEFT_EYE, MOUTH, RIGHT_EYE, Aperture, Box, pixel_box

# of a width, and pixels: how far around the mouth and an eye anything is painted
AROUND_MOUTH, AROUND_EYE, AROUND_PX = 0.1, 0.3, 4.0


@dataclass(frozen=True)
class FramePose:
    """The face in one frame; lengths in pixels of the whole picture."""

    points: Tensor  # (478, 2) landmarks
    head: Tensor  # (3, 2) affine that takes portrait positions (x, y, 1) to where the head carries them
    mouth: Aperture
    eyes: tuple[Aperture, Aperture]  # right, left, as if their upper lids had not closed
    shut: tuple[float, float] = (0.0, 0.0)  # the way that their upper lids have closed, 0..1
    # (2, rows, columns) where the pixels of a part of the box came from, pixels of the box; once warped
    came_from: Callable[[tuple[slice, slice]], Tensor] | None = None

    @staticmethod
    def of(points: Tensor, head: Tensor, shut: Tensor) -> FramePose:
        """The pose that landmarks (478, 2), a head's affine (3, 2) and closed lids (2,) show."""
        eyes = (Aperture.of(points, RIGHT_EYE), Aperture.of(points, LEFT_EYE))
        return FramePose(points, head, Aperture.of(points, MOUTH), eyes, tuple(shut.tolist()))


class Painter(Protocol):
    """Paints one part of a face over the warped picture."""

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """Change a frame in place.

        Args:
            region: (3, h, w) float 0..255, already warped; its first pixel is the box's. Only what lies in
                `painted_parts` is the frame's.
            pose: the face in this frame.
        """


def painted_parts(pose: FramePose, box: Box) -> list[Box]:
    """The parts of a box that painters may look at and change: around the mouth and either eye."""
    openings = ((MOUTH, pose.mouth, AROUND_MOUTH), (RIGHT_EYE, pose.eyes[0], AROUND_EYE))
    openings += ((LEFT_EYE, pose.eyes[1], AROUND_EYE),)
    parts = (
        pixel_box(pose.points[[*upper, *lower]], around * opening.width + AROUND_PX, box)
        for (upper, lower), opening, around in openings
    )
    return [part for part in parts if part is not None]


def within(part: Box, box: Box) -> tuple[slice, slice]:
    """Rows and columns of `part`, a box of pixels, in a region that shows `box`."""
    return slice(part[1] - box[1], part[3] - box[1]), slice(part[0] - box[0], part[2] - box[0])
