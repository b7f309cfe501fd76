"""Keeps the frames in which most was lost, of a stream of frame pairs: where the mouth is far off, where SSIM is least.

Shapes: T frames of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from .result import WorstFrame, jpeg_base64


class WorstFrames:
    """Keeps the pictures of the worst moments: where the mouth is far off, and where SSIM is least.

    Args:
        distance: (T,) the mouth's.
        most: frames, of each reason.
        apart: frames between two of one reason.
    """

    def __init__(self, distance: Tensor, most: int, apart: float) -> None:
        self._distance, self._by_mouth = distance, set(_peaks(distance, most, apart))
        self._by_picture = _Least(most, apart)
        self._kept: dict[int, tuple[float, str, str]] = {}  # SSIM, generated, target

    def offer(self, k: int, similarity: float, generated: Tensor, target: Tensor) -> None:
        """The pictures of pair k, and their SSIM or NaN."""
        dropped = self._by_picture.offer(k, similarity)
        if k in self._by_mouth or self._by_picture.holds(k):
            self._kept[k] = similarity, jpeg_base64(generated), jpeg_base64(target)
        if dropped is not None and dropped not in self._by_mouth:
            self._kept.pop(dropped, None)

    def frames(self, start: int, fps: float) -> Iterator[WorstFrame]:
        """In the order of time, `start` frames into the generated video."""
        for k, (similarity, generated, target) in sorted(self._kept.items()):
            reasons = []
            if k in self._by_mouth:
                reasons.append(f"mouth off by {float(self._distance[k]):.1f} % of the eye distance")
            if self._by_picture.holds(k):
                reasons.append(f"SSIM {similarity:.3f}")
            yield WorstFrame((k + start) / fps, ", ".join(reasons), generated, target)


def _peaks(values: Tensor, most: int, apart: float) -> list[int]:
    """Numbers of the greatest values that lie at least so many frames apart; NaN counts as none."""
    chosen: list[int] = []
    for k in values.nan_to_num(-1).argsort(descending=True, stable=True).tolist():
        if len(chosen) >= most or not values[k] > 0:
            break
        if all(abs(k - other) >= apart for other in chosen):
            chosen.append(k)
    return chosen


class _Least:
    """The least values of a stream, at least so many frames apart."""

    def __init__(self, most: int, apart: float) -> None:
        self.most, self.apart = most, apart
        self._found: dict[int, float] = {}

    def holds(self, k: int) -> bool:
        return k in self._found

    def offer(self, k: int, value: float) -> int | None:
        """Take a value if it is among the least; the number of the one that had to leave for it, if any."""
        if math.isnan(value) or value >= 1 or not self.most:
            return None
        near = [other for other in self._found if k - other < self.apart]
        rival = near[0] if near else max(self._found, key=self._found.__getitem__, default=None)
        if not near and len(self._found) < self.most:
            self._found[k] = value
            return None
        if rival is None or value >= self._found[rival]:
            return None
        del self._found[rival]
        self._found[k] = value
        return rival
