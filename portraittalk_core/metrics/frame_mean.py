"""Mean of a metric that is measured frame by frame, with the worst frame; memory does not grow with the video."""

from __future__ import annotations

import math

from ..checks import check_choice
from ..errors import InputError


class FrameMean:
    """What became of PSNR, SSIM, LPIPS, a landmark distance or a similarity over a video.

    Args:
        better: "higher" or "lower"; says which frame is the worst.
    """

    def __init__(self, better: str) -> None:
        self.better = check_choice(better, ("higher", "lower"), "better")
        self.count = 0  # frames in the mean
        self.num_infinite = 0  # left out of it: PSNR of identical frames
        self.num_missing = 0  # None or NaN: frames without a face
        self.worst: tuple[int, float] | None = None  # number of the frame, its value
        self._sum = 0.0

    def update(self, value: float | None) -> None:
        """Take in the next frame; None or NaN where it could not be measured."""
        number = self.count + self.num_infinite + self.num_missing
        if value is None or math.isnan(value):
            self.num_missing += 1
        elif math.isinf(value):
            self.num_infinite += 1
        else:
            self.count, self._sum = self.count + 1, self._sum + value
            sign = 1 if self.better == "lower" else -1
            if self.worst is None or sign * value > sign * self.worst[1]:
                self.worst = number, value

    def result(self) -> float:
        """Mean over the frames that were measured; infinity where all of those were infinite.

        Raises:
            InputError: no frame was measured.
        """
        if self.count:
            return self._sum / self.count
        if self.num_infinite:
            return math.inf
        raise InputError(f"none of {self.num_missing} frames could be measured; see that both videos show a face.")
