"""Rasterisation of two-pixel-thick lines, bit-identical to OpenCV and vectorised, without OpenCV.

ControlNets were trained on OpenCV's pixels. Such a line is a rectangle of fixed-point corners, one pixel to either side
of the line: its outline, the spans between its left and right sides, and a plus of five pixels on either end.

Shapes: E lines; a rectangle has 4 corners and 4 sides. Points are (x, y).
"""

from __future__ import annotations

import numpy as np

UNIT = 1 << 16  # one pixel in fixed point
HALF = UNIT >> 1
PLUS = np.array([(0, -1), (-1, 0), (0, 0), (1, 0), (0, 1)])  # a disc of radius 1

Pixels = tuple[np.ndarray, np.ndarray]  # number of the line (P,) and (x, y) of the pixel (P, 2)


def paint_lines(canvas: np.ndarray, starts: np.ndarray, ends: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Draw lines into a picture in place, later ones on top, and return it.

    Args:
        canvas: (H, W, 3) uint8, drawn into in place.
        starts: (E, 2) whole pixels inside the picture.
        ends: (E, 2).
        colours: (E, 3) uint8.
    """
    if not len(starts):
        return canvas
    height, width = canvas.shape[:2]
    starts, ends = starts.astype(np.int64), ends.astype(np.int64)
    corners = _corners(starts, ends)
    parts = [_outline(corners, width, height), _inside(corners, width, height), _plus(starts), _plus(ends)]
    line = np.concatenate([part[0] for part in parts])
    pixels = np.concatenate([part[1] for part in parts])
    visible = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    line, pixels = line[visible], pixels[visible]
    order = np.argsort(line, kind="stable")  # where lines cross, the later one wins
    line, pixels = line[order], pixels[order]
    canvas[pixels[:, 1], pixels[:, 0]] = colours[line]
    return canvas


def _corners(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(E, 4, 2) fixed-point corners of every line's rectangle, in order; all equal for a line of length zero."""
    along = starts - ends
    length = np.hypot(along[:, 0], along[:, 1])
    unit = UNIT / np.where(length > 0, length, np.inf)
    # the normal on the line, one pixel long; np.rint rounds halves to even, as the reference does
    normal = np.rint(np.stack([-along[:, 1] * unit, along[:, 0] * unit], 1)).astype(np.int64)
    first, last = starts * UNIT, ends * UNIT
    return np.stack([first + normal, first - normal, last - normal, last + normal], 1)


def _plus(points: np.ndarray) -> Pixels:
    """Pixels of the lines' round caps."""
    return np.repeat(np.arange(len(points)), len(PLUS)), (points[:, None] + PLUS).reshape(-1, 2)


def _outline(corners: np.ndarray, width: int, height: int) -> Pixels:
    """Pixels of the rectangles' edges: one per column or row, along the edge's major axis."""
    first = np.roll(corners, 1, axis=1).reshape(-1, 2)
    last = corners.reshape(-1, 2)
    line = np.repeat(np.arange(len(corners)), 4)
    first, last, visible = _cut(first, last, (width * UNIT - 1, height * UNIT - 1))
    first, last, line = first[visible], last[visible], line[visible]
    delta = last - first
    steep = np.abs(delta[:, 0]) <= np.abs(delta[:, 1])
    first, last, delta = (np.where(steep[:, None], pair[:, ::-1], pair) for pair in (first, last, delta))
    backward = delta[:, :1] < 0
    first, last, delta = np.where(backward, last, first), np.where(backward, first, last), np.abs(delta[:, 0])
    slope = _quotient((last[:, 1] - first[:, 1]) * UNIT, delta | 1)
    side, step = _count_up((delta >> 16) + 1)
    major = ((first[:, 0] + HALF) >> 16)[side] + step
    minor = (first[side, 1] + HALF + step * slope[side]) >> 16
    pixels = np.concatenate([np.stack([major, minor], 1), (last + HALF) >> 16])
    side = np.concatenate([side, np.arange(len(last))])
    return line[side], np.where(steep[side, None], pixels[:, ::-1], pixels)


def _inside(corners: np.ndarray, width: int, height: int) -> Pixels:
    """Pixels inside the rectangles, by scanline; the last row belongs to the outline alone."""
    upper, lower = np.roll(corners, 1, axis=1), corners
    swapped = upper[..., 1] > lower[..., 1]
    upper, lower = (np.where(swapped[..., None], *pair) for pair in ((lower, upper), (upper, lower)))
    top, bottom = (upper[..., 1] + HALF) >> 16, (lower[..., 1] + HALF) >> 16
    rows = bottom - top
    slope = _quotient((lower[..., 0] - upper[..., 0]) * 2 + rows, 2 * np.maximum(rows, 1))
    line, offset = _count_up(np.ptp(corners[..., 1] + HALF >> 16, axis=1))
    row = top.min(1)[line] + offset
    crossed = (top[line] <= row[:, None]) & (row[:, None] < bottom[line])
    at = upper[line, :, 0] + (row[:, None] - top[line]) * slope[line]
    first_column = (np.where(crossed, at, np.iinfo(np.int64).max - HALF).min(1) + HALF) >> 16
    last_column = (np.where(crossed, at, np.iinfo(np.int64).min).max(1) + HALF) >> 16
    first_column, last_column = np.maximum(first_column, 0), np.minimum(last_column, width - 1)
    span, column = _count_up(np.maximum(last_column - first_column + 1, 0) * ((row >= 0) & (row < height)))
    return line[span], np.stack([first_column[span] + column, row[span]], 1)


def _cut(first: np.ndarray, last: np.ndarray, limit: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges clipped to 0..limit, y before x, and a mask of those that are visible."""
    first, last = first.copy(), last.copy()
    for axis in (1, 0):
        high = limit[axis]
        visible = ~((first[:, axis] < 0) & (last[:, axis] < 0) | (first[:, axis] > high) & (last[:, axis] > high))
        for point, other in ((first, last), (last, first)):
            out = visible & ((point[:, axis] < 0) | (point[:, axis] > high))
            if not out.any():
                continue
            border = np.where(point[out, axis] < 0, 0, high)
            share = (border - point[out, axis]).astype(np.float64)
            delta = other[out] - point[out]
            moved = np.trunc(share * delta[:, 1 - axis] / delta[:, axis]).astype(np.int64)
            point[out, 1 - axis] += moved
            point[out, axis] = border
    inside = [(end >= 0).all(1) & (end <= np.array(limit)).all(1) for end in (first, last)]
    return first, last, inside[0] & inside[1]


def _quotient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Integer division by a positive number, truncated towards zero."""
    return np.sign(top) * (np.abs(top) // bottom)


def _count_up(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For counts (2, 3): owners 0 0 1 1 1 and steps 0 1 0 1 2."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
