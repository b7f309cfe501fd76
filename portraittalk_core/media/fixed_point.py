"""OpenCV's 8-bit picture arithmetic to the last bit: bilinear resize, Gaussian blur, filled polygons.

Networks that were trained on such pictures see the same ones, and what public code pastes can be pasted so without that
package.

Shapes: H and W of a picture, h and w of another, C channels, K corners.
Source: behaviour of OpenCV 4 (github.com/opencv/opencv): whole numbers for weights, 2048ths where it resizes, 256ths
where it blurs, 65536ths along a polygon's sides.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checks import check_range
from ..types import check_picture

WEIGHT = 2048  # one, of the weights of a resize
DROPPED_BITS, SUM_BITS, LAST_BITS = 4, 16, 2  # of a resize: off a row's sums, off their products, off those of two rows
BLUR_ONE = 256  # of a kernel's weights
SUB = 16  # bits of a polygon's places below a pixel
MAX_BLUR_PX = 255
Point = tuple[int, int]


def resized(picture: Tensor, width: int, height: int) -> Tensor:
    """(h, w, C) uint8 of a picture (H, W, C) uint8, interpolated between four pixels, not averaged.

    Args:
        picture: what is resized.
        width: w.
        height: h.
    """
    check_picture(picture, "the picture to resize")
    pixels = picture.cpu().numpy().astype(np.int64)
    left, right, low_weight, high_weight = _places(pixels.shape[1], width, stops=True)
    rows = pixels[:, left] * low_weight[:, None] + pixels[:, right] * high_weight[:, None] >> DROPPED_BITS
    upper, lower, low_weight, high_weight = _places(pixels.shape[0], height, stops=False)
    sums = (low_weight[:, None, None] * rows[upper] >> SUM_BITS) + (
        high_weight[:, None, None] * rows[lower] >> SUM_BITS
    )
    rounded = sums + (1 << LAST_BITS - 1) >> LAST_BITS
    return torch.from_numpy(rounded.clip(0, 255).astype(np.uint8))


def _places(length: int, num_out: int, stops: bool) -> tuple[np.ndarray, ...]:
    """The two pixels between which each of the wanted ones lies, and their weights.

    Beyond the ends a pixel stands for both. Along rows all weight is its first then (`stops`); along columns the two
    are rounded on their own.
    """
    at = ((np.arange(num_out) + 0.5) * (length / num_out) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    if stops:
        share[(first < 0) | (first >= length - 1)] = 0
    shares = (np.float32(1) - share, share)
    low_weight, high_weight = (np.rint(part * np.float32(WEIGHT)).astype(np.int64) for part in shares)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), low_weight, high_weight


def blurred(mask: Tensor, size: int, sigma: float) -> Tensor:
    """(H, W) uint8 of a mask (H, W) uint8, blurred; beyond its edges it is mirrored, the outermost pixel seen once.

    Args:
        mask: what is blurred.
        size: of the kernel in pixels, odd.
        sigma: standard deviation in pixels.
    """
    check_range(size, 1, MAX_BLUR_PX, "the size of a blur")
    kernel, reach = _kernel(size, sigma), size // 2
    sums = np.pad(mask.cpu().numpy().astype(np.int64), reach, mode="reflect")
    for _ in range(2):  # along columns, then turned, along rows
        height = len(sums) - 2 * reach
        sums = sum(weight * sums[at : at + height] for at, weight in enumerate(kernel)).T
    return torch.from_numpy((sums + (BLUR_ONE**2 >> 1) >> 16).astype(np.uint8))


def _kernel(size: int, sigma: float) -> list[int]:
    """Whole weights that add up to `BLUR_ONE`; what rounding leaves over is handed on towards the middle."""
    at = np.arange(size) - size // 2
    exact = np.exp(-(at**2) / (2 * sigma**2))
    side, over = [], 0.0
    for weight in BLUR_ONE * (exact / exact.sum())[: size // 2]:
        side.append(round(weight + over))
        over += weight - side[-1]
    return [*side, BLUR_ONE - 2 * sum(side), *side[::-1]]


def filled_polygon(corners: Tensor, width: int, height: int) -> Tensor:
    """(H, W) uint8, 255 in a polygon and on its outline, else 0.

    It is filled from row to row between two chains of corners that begin at the topmost one, so that of several tops
    what lies between them is filled too; for a convex polygon that is all of it.

    Args:
        corners: (K, 2) whole pixels, x and y.
        width: W.
        height: H.
    """
    points = [tuple(point) for point in corners.tolist()]
    mask = np.zeros((height, width), np.uint8)
    for ends in zip([points[-1], *points], points, strict=False):
        within = _clipped(*ends, width - 1, height - 1)
        if within is not None:
            x, y = _line(*within)
            mask[y, x] = 255
    for y, one, other in _spans(points):
        if 0 <= y < height:
            mask[y, max(0, min(one, other)) : max(0, max(one, other) + 1)] = 255
    return torch.from_numpy(mask)


def _clipped(first: Point, last: Point, right: int, bottom: int) -> tuple[Point, Point] | None:
    """The part of a line within 0..right and 0..bottom, its new ends rounded towards the old ones; None: there is none.

    Source: D. Cohen and I. Sutherland's clipping, rows before columns.
    """
    ends = [list(first), list(last)]
    for axis, limit in ((1, bottom), (0, right)):
        if all(end[axis] < 0 for end in ends) or all(end[axis] > limit for end in ends):
            return None
        for end in ends:
            edge = min(max(end[axis], 0), limit)
            if edge != end[axis]:
                ways = [ends[1][at] - ends[0][at] for at in (0, 1)]
                end[1 - axis] += int((edge - end[axis]) * ways[1 - axis] / ways[axis])
                end[axis] = edge
    if any(not 0 <= end[1] <= bottom for end in ends):
        return None
    return (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])


def _line(first: Point, last: Point) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a line, from its left end; J. E. Bresenham 1965, halves rounded towards the beginning."""
    (x0, y0), (x1, y1) = (last, first) if last[0] < first[0] else (first, last)
    ways = np.array([x1 - x0, y1 - y0])
    length = max(1, int(abs(ways).max()))
    step = np.arange(int(abs(ways).max()) + 1)
    x, y = (np.sign(way) * -((length - 2 * step * abs(way)) // (2 * length)) for way in ways)
    return x0 + x, y0 + y


def _spans(points: list[Point]) -> list[tuple[int, int, int]]:
    """Row, and the two ends of what is filled in it, of each row of a polygon."""
    count, last = len(points), max(y for _, y in points)
    y = min(y for _, y in points)
    first = min(range(count), key=lambda at: points[at][1])
    sides = [_Side(points, first, 1, y), _Side(points, first, -1, y)]
    left, spans = count, []
    while y <= last:
        for side in sides:
            if y >= side.ends_at:
                left = side.go_on(y, left)
        if left < 0:
            break
        spans.append((y, *(side.step() for side in sides)))
        y += 1
    return spans


class _Side:
    """One of the two chains of corners, along which a polygon is filled downwards."""

    def __init__(self, points: list[Point], first: int, way: int, y: int) -> None:
        self._points, self._at, self._way, self.ends_at = points, first, way, y
        self._x = self._slope = 0

    def go_on(self, y: int, left: int) -> int:
        """Turn to the next corner below row y; how many corners of both sides are left, −1 if there is none."""
        vertex = self._at
        while left > 0:
            left -= 1
            following = (vertex + self._way) % len(self._points)
            if self._points[following][1] > y:
                rows = self._points[following][1] - y
                across = (self._points[following][0] - self._points[vertex][0] << SUB + 1) + rows
                self._x, self._at, self.ends_at = self._points[vertex][0] << SUB, following, self._points[following][1]
                self._slope = abs(across) // (2 * rows) * (1 if across >= 0 else -1)
                return left
            vertex = following
        return -1

    def step(self) -> int:
        """Column in the current row, rounded; the next row follows."""
        x = self._x + (1 << SUB - 1) >> SUB
        self._x += self._slope
        return x
