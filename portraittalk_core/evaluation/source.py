"""Picture sources at any frame rate and size, and progress over several passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ..errors import InputError
from ..media.resize import resize_picture
from ..media.video_read import probe_video, read_pictures
from ..progress import Progress

T = TypeVar("T")
SHAPE_TOLERANCE = 0.01  # relative difference of aspect ratios that is still one shape


@dataclass(frozen=True)
class PictureSource:
    """The pictures of a video: a file, or frames in memory."""

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

    @staticmethod
    def of_frames(
        name: str, num_frames: int, size: tuple[int, int], fps: Fraction, picture: Callable[[int], Tensor]
    ) -> PictureSource:
        """Frames in memory.

        Args:
            name: what to call it in messages.
            num_frames: at least 1.
            size: height and width, pixels.
            fps: frames per second.
            picture: a frame's number to (H, W, 3) uint8.

        Raises:
            InputError: there is no frame.
        """
        if num_frames < 1:
            raise InputError(f"{name} must hold at least 1 frame, not {num_frames}.")
        return PictureSource(
            name, size[1], size[0], fps, float(num_frames / fps),
            lambda rate: (picture(k) for k in shown_frames(num_frames, fps, rate)),
        )  # fmt: skip


def shown_frames(num_frames: int, fps: Fraction, rate: Fraction) -> list[int]:
    """Indices of the frames shown at times k / rate (sample and hold).

    Args:
        num_frames: of the video.
        fps: its own frame rate.
        rate: at which it is sampled.
    """
    return [min(int(k * fps / rate), num_frames - 1) for k in range(math.ceil(num_frames * rate / fps))]


def check_same_shape(names: Iterable[str], *sizes: tuple[int, int]) -> None:
    """Check that videos have equal aspect ratios.

    Args:
        names: of the videos, for the message.
        sizes: width and height of each.

    Raises:
        InputError: their aspect ratios differ.
    """
    shapes = [width / height for width, height in sizes]
    if max(shapes) > (1 + SHAPE_TOLERANCE) * min(shapes):
        listed = " and ".join(f"{width}×{height}" for width, height in sizes)
        raise InputError(
            f"{' and '.join(names)} are of {listed} pixels, different shapes; crop one to the other's first."
        )


def scaled_to(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (H, W, 3) uint8 resized to (height, width); itself where it has that size."""
    return resize_picture(picture, size, "bilinear")


class Steps:
    """Progress counter over several passes."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, one step reported after each."""
        for item in items:
            yield item
            self.done += 1
            if self.on_progress:
                self.on_progress(min(self.done, self.total), self.total)
