"""How far speech moves the expression: one number, or a curve over time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ....checks import abbreviated, check_finite, check_range, check_shape, is_finite_number
from ....errors import InputError
from ....motion.smoothing import frame_times_s

MAX_ALPHA = 2.0
DEFAULT_ALPHA = 0.7  # of the public weights
EXAMPLE = "[(0, 0.7), (2.5, 0.2), (3, 1)]"

Alpha = float | Tensor | Sequence[tuple[float, float]]


class AlphaCurve:
    """The checked amount of every frame."""

    def __init__(self, alpha: Alpha = DEFAULT_ALPHA) -> None:
        """Check the amounts.

        Args:
            alpha: one number 0..2; (K,) one a frame, the last one held; or points (seconds, amount) in the order of
                time, straight between them, held before the first and after the last.

        Raises:
            InputError: NaN, outside 0..2, points out of order, or none.
        """
        self.points: tuple[np.ndarray, np.ndarray] | None = None
        if isinstance(alpha, Tensor) and alpha.ndim:
            self.values = _checked_values(alpha)
        elif is_finite_number(alpha) or not isinstance(alpha, Sequence) or isinstance(alpha, str):
            number = alpha.item() if isinstance(alpha, Tensor) else alpha
            self.values = torch.tensor([float(check_range(number, 0, MAX_ALPHA, "alpha"))])
        else:
            self.values, self.points = torch.empty(0), _checked_points(alpha)

    def at(self, first: int, count: int, fps: Fraction) -> Tensor:
        """(count,) float32 amounts of the frames first..first+count-1."""
        if self.points:
            times = frame_times_s(first + count, fps)[first:].numpy()
            return torch.from_numpy(np.interp(times, *self.points)).float()
        return self.values[torch.arange(first, first + count).clamp(max=len(self.values) - 1)]


def _checked_values(values: Tensor) -> Tensor:
    values = check_finite(check_shape(values, "K", "the curve of alpha").float().cpu(), "the curve of alpha")
    if not len(values):
        raise InputError("the curve of alpha holds no value; give one a frame, or one number for all.")
    check_range(float(values.min()), 0, MAX_ALPHA, "the least value of the curve of alpha")
    check_range(float(values.max()), 0, MAX_ALPHA, "the largest value of the curve of alpha")
    return values


def _checked_points(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and amounts."""
    if not points:
        raise InputError(f"the curve of alpha has no points; give one number, or points such as {EXAMPLE}.")
    last = 0.0
    for number, point in enumerate(points, 1):
        is_pair = isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2
        if not is_pair or not all(map(is_finite_number, point)):
            raise InputError(
                f"point {number} of the curve of alpha must be two finite numbers (seconds, alpha), "
                f"not {abbreviated(point)}."
            )
        check_range(point[1], 0, MAX_ALPHA, f"alpha of point {number}")
        if point[0] < last:
            previous = f"point {number - 1} ({last:g} s)" if number > 1 else "the clip's beginning"
            raise InputError(
                f"point {number} of the curve of alpha is at {float(point[0]):g} s, before {previous}; put the points "
                "into the order of time."
            )
        last = float(point[0])
    seconds, amounts = zip(*points, strict=True)
    return np.asarray(seconds, dtype=float), np.asarray(amounts, dtype=float)
