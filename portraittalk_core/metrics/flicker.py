"""Flicker: mean change of generated pixels where the true video is static."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_range, check_shape
from ..errors import InputError
from ..types import check_picture
from .meter import Meter, MetricContext

STILL_LEVELS = 2  # of 255: what compression changes in a still place


class FlickerMeter(Meter):
    """Flicker of frames that come one by one; two frames of each video are in memory.

    Args:
        still_levels: a pixel of the true video stands still where no channel changes by more than so many levels.
    """

    def __init__(self, still_levels: int = STILL_LEVELS) -> None:
        self.still_levels = int(check_range(still_levels, 0, 255, "still_levels"))
        self._last: tuple[Tensor, Tensor] | None = None
        self._changed = self._num_still = 0

    def update(self, generated: Tensor, target: Tensor) -> float | None:
        """Add the next frame of both.

        Args:
            generated: (H, W, 3) uint8.
            target: the same shape.

        Returns:
            This step's flicker, 0..255; None for the first frame or where nothing stands still.

        Raises:
            InputError: frames of different sizes.
        """
        check_picture(generated, "the generated frame")
        if generated.shape != target.shape or (self._last and self._last[0].shape != target.shape):
            raise InputError(f"frames of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
        check_shape(target, "H W 3", "the target frame")
        now = generated.to(torch.int16), target.to(torch.int16)
        previous, self._last = self._last, now
        if previous is None:
            return None
        static = ((now[1] - previous[1]).abs() <= self.still_levels).all(2)
        changed, count = int((now[0] - previous[0]).abs().sum(2)[static].sum()), int(static.sum())
        self._changed, self._num_still = self._changed + changed, self._num_still + count
        return changed / (3 * count) if count else None

    def result(self) -> float:
        """Mean absolute change over still pixels and channels, 0..255 levels.

        Raises:
            InputError: fewer than two frames, or nothing stands still.
        """
        if not self._num_still:
            raise InputError("flicker needs two frames in which some of the true video stands still.")
        return self._changed / (3 * self._num_still)


def flicker(generated: Tensor, target: Tensor, still_levels: int = STILL_LEVELS) -> float:
    """Flicker of a whole clip in memory: see `FlickerMeter`.

    Args:
        generated: (T, H, W, 3) uint8.
        target: the same shape.
        still_levels: what counts as still.

    Returns:
        0..255 levels; 0 where still places stay still. Not symmetric: the target says what is still.

    Raises:
        InputError: different shapes, fewer than two frames, or nothing stands still.
    """
    if generated.shape != target.shape:
        raise InputError(f"frames of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    meter = FlickerMeter(still_levels)
    for a, b in zip(generated, target, strict=True):
        meter.update(a, b)
    return meter.result()


def flicker_of_frames(_context: MetricContext) -> Meter:
    """For the registry: flicker with the usual threshold."""
    return FlickerMeter()
