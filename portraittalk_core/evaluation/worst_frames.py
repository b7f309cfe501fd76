"""Worst frames of a stream of frame pairs: by mouth distance and by SSIM.

Shapes: T frames of the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from .result import WorstFrame, jpeg_base64


class WorstFrames:
    """Collects the worst frames' pictures: greatest mouth distance, and lowest SSIM.

    Args:
        distance: (T,) the mouth's.
        limit: frames, of each reason.
        min_gap: frames between two of one reason.
    """

    def __init__(self, distance: Tensor, limit: int, min_gap: float) -> None:
        self._distance, self._by_mouth = distance, set(_peaks(distance, limit, min_gap))
        self._by_picture = _Lowest(limit, min_gap)
        self._pictures: dict[int, tuple[float, str, str]] = {}  # SSIM, generated, target

    def offer(self, k: int, similarity: float, generated: Tensor, target: Tensor) -> None:
        """Take the pictures of pair k, and their SSIM or NaN, if k is among the worst."""
        dropped = self._by_picture.offer(k, similarity)
        if k in self._by_mouth or self._by_picture.holds(k):
            self._pictures[k] = similarity, jpeg_base64(generated), jpeg_base64(target)
        if dropped is not None and dropped not in self._by_mouth:
            self._pictures.pop(dropped, None)

    def frames(self, start: int, fps: float) -> Iterator[WorstFrame]:
        """The worst frames by time, `start` frames into the generated video."""
        for k, (similarity, generated, target) in sorted(self._pictures.items()):
            reasons = []
            if k in self._by_mouth:
                reasons.append(f"mouth off by {float(self._distance[k]):.1f} % of the eye distance")
            if self._by_picture.holds(k):
                reasons.append(f"SSIM {similarity:.3f}")
            yield WorstFrame((k + start) / fps, ", ".join(reasons), generated, target)


def _peaks(values: Tensor, limit: int, min_gap: float) -> list[int]:
    """Indices of the greatest values at least `min_gap` frames apart; NaN is ignored."""
    peaks: list[int] = []
    for k in values.nan_to_num(-1).argsort(descending=True, stable=True).tolist():
        if len(peaks) >= limit or not values[k] > 0:
            break
        if all(abs(k - other) >= min_gap for other in peaks):
            peaks.append(k)
    return peaks


class _Lowest:
    """The lowest values of a stream, at least `min_gap` frames apart."""

    def __init__(self, limit: int, min_gap: float) -> None:
        self.limit, self.min_gap = limit, min_gap
        self._values: dict[int, float] = {}

    def holds(self, k: int) -> bool:
        return k in self._values

    def offer(self, k: int, value: float) -> int | None:
        """Take a value if it is among the lowest; returns the index of the value it replaces, if any."""
        if math.isnan(value) or value >= 1 or not self.limit:
            return None
        neighbours = [other for other in self._values if k - other < self.min_gap]
        rival = neighbours[0] if neighbours else max(self._values, key=self._values.__getitem__, default=None)
        if not neighbours and len(self._values) < self.limit:
            self._values[k] = value
            return None
        if rival is None or value >= self._values[rival]:
            return None
        del self._values[rival]
        self._values[k] = value
        return rival
