"""Videos as pictures to be measured, brought to one shape, and one progress over the passes that measure them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ..errors import InputError
from ..media.resize import resize_picture
from ..media.video import probe_video, read_pictures
from ..progress import Progress
from ..types import LandmarkTrack

T = TypeVar("T")
SHAPE_TOLERANCE = 0.01  # relative difference of aspect ratios that is still one shape


@dataclass(frozen=True)
class PictureSource:
    """A video to be scored: a file, or pictures in memory."""

    name: str  # what to call it in messages
    width: int
    height: int
    fps: Fraction
    seconds: float
    read: Callable[[Fraction], Iterator[Tensor]]  # (H, W, 3) uint8 pictures at a frame rate; called more than once

    @staticmethod
    def of_file(path: Path) -> PictureSource:
        """A video file.

        Raises:
            MediaError: it is not one.
        """
        probe = probe_video(path)
        return PictureSource(
            Path(path).name, probe.width, probe.height, probe.fps, probe.seconds, partial(read_pictures, path)
        )


def check_same_shape(
    generated: PictureSource | LandmarkTrack, target: PictureSource | LandmarkTrack, names: str
) -> None:
    """Check that two videos can be compared pixel by pixel, once they are of one size.

    Raises:
        InputError: their aspect ratios differ; `names` says whose.
    """
    shapes = generated.width / generated.height, target.width / target.height
    if max(shapes) > (1 + SHAPE_TOLERANCE) * min(shapes):
        raise InputError(
            f"{names} are of {generated.width}×{generated.height} and {target.width}×{target.height} pixels, different "
            "shapes; crop one to the other's first."
        )


def scaled_to(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (H, W, 3) uint8 at another size (height, width); itself where it has that size."""
    return resize_picture(picture, size, "bilinear")


class Steps:
    """One progress over several passes."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, one step told after each."""
        for item in items:
            yield item
            self.done += 1
            if self.on_progress:
                self.on_progress(min(self.done, self.total), self.total)
