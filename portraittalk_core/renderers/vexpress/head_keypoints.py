"""Drawing of the head's key points: V-Express's three, joined by ellipses, or SVP's eight, as discs.

V-Express's were drawn by OpenCV, so that drawing has its pixels, without OpenCV. SVP does not tell how it draws.

Shapes: T frames, P points, H and W pixels. Points are (x, y) in pixels; left and right are the viewer's.
Source: V-Express (Wang et al. 2024), section 3.2; `docs/design/vexpress.md` 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...checks import check_finite, check_range, check_shape
from ...face.topology import LEFT_IRIS, NOSE_TIP, RIGHT_IRIS
from ...types import LandmarkTrack
from ..animatenet.landmark_control import FULL_SIZE_PX, HEAD_KPS

THREE = (RIGHT_IRIS[0], LEFT_IRIS[0], NOSE_TIP)  # the subject's right eye is left in the picture

THREE_COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
LIMBS = ((0, 2), (1, 2))  # eyes to nose, in the eye's colour, darker
LIMB_SHADE, HALF_WIDTH_PX, RADIUS_PX = 0.6, 4, 4
MAX_SIDE_PX = 4096
EIGHT = tuple(index for index, _ in HEAD_KPS)  # edges of the face, pupils, and down the bridge of the nose
EIGHT_COLOURS = np.array([colour for _, colour in HEAD_KPS], np.uint8)
KEY_POINTS = {3: THREE, 8: EIGHT}  # landmarks by the number of points
UNIT = 1 << 16  # a pixel in fixed point


def three_points(track: LandmarkTrack) -> Tensor:
    """(T, 3, 2) px key points of V-Express: left eye, right eye and nose."""
    return track.points_px[:, list(THREE), :2]


def key_points(track: LandmarkTrack, count: int) -> Tensor:
    """(T, P, 2) px key points of a guider that sees 3 or 8."""
    return track.points_px[:, list(KEY_POINTS[count]), :2]


def draw_heads(points: Tensor, width: int, height: int) -> Iterator[Tensor]:
    """Drawings (H, W, 3) uint8 of key points (T, P, 2) px, for the guider that sees so many."""
    draw = draw_three if points.shape[1] == len(THREE) else draw_eight
    return draw(points, width, height)


def draw_eight(points: Tensor, width: int, height: int) -> Iterator[Tensor]:
    """SVP's eight points as discs of fixed colours, without lines; later ones cover earlier ones.

    Args:
        points: (T, 8, 2) px, in the order of EIGHT.
        width: of the drawing, pixels.
        height: of the drawing, pixels; at 512 the radius is that of V-Express's points.

    Yields:
        (H, W, 3) uint8 RGB on black.
    """
    radius = max(1, round(RADIUS_PX * height / FULL_SIZE_PX))
    for frame in _checked(points, width, height, len(EIGHT)):
        canvas = np.zeros((height, width, 3), np.uint8)
        for point, colour in zip(frame, EIGHT_COLOURS, strict=True):
            _disc(canvas, point, colour, radius)
        yield torch.from_numpy(canvas)


def draw_three(points: Tensor, width: int, height: int) -> Iterator[Tensor]:
    """V-Express's drawing of each frame.

    Args:
        points: (T, 3, 2) px: left eye, right eye, nose.
        width: of the drawing, pixels.
        height: of the drawing, pixels.

    Yields:
        (H, W, 3) uint8 RGB: red left eye, green right eye, blue nose, on black.
    """
    for frame in _checked(points, width, height):
        canvas = np.zeros((height, width, 3), np.uint8)
        for eye, nose in LIMBS:
            shade = [int(float(value) * LIMB_SHADE) for value in THREE_COLOURS[eye]]
            _fill(canvas, _ellipse(frame[eye], frame[nose]), shade)
        for point, colour in zip(frame, THREE_COLOURS, strict=True):
            _disc(canvas, point, colour)
        yield torch.from_numpy(canvas)


def _checked(points: Tensor, width: int, height: int, count: int = len(THREE)) -> np.ndarray:
    check_range(width, 1, MAX_SIDE_PX, "the drawing's width")
    check_range(height, 1, MAX_SIDE_PX, "the drawing's height")
    check_finite(check_shape(points, f"T {count} 2", "key points"), "key points")
    # far outside of the picture, where they stand makes no difference; numbers stay small
    return points.detach().cpu().double().clamp(-4 * MAX_SIDE_PX, 4 * MAX_SIDE_PX).numpy()


def _ellipse(eye: np.ndarray, nose: np.ndarray) -> np.ndarray:
    """(P, 2) whole corners, a degree apart, of an ellipse from one point to the other."""
    along = eye - nose
    turn = math.radians(int(math.degrees(math.atan2(along[1], along[0]))))  # whole degrees, towards zero
    axes = np.array([int(np.hypot(*along) / 2), HALF_WIDTH_PX])
    circle = np.radians(np.arange(361))
    x, y = axes[0] * _rounded(np.cos(circle)), axes[1] * _rounded(np.sin(circle))
    cos, sin = _rounded(np.cos(turn)), _rounded(np.sin(turn))
    corners = np.trunc((eye + nose) / 2)[:, None] + np.stack([x * cos - y * sin, x * sin + y * cos])
    return np.rint(corners.T).astype(np.int64)


def _rounded(value: np.ndarray) -> np.ndarray:
    """Sines as OpenCV has them: seven decimals in single precision."""
    return np.round(value, 7).astype(np.float32).astype(np.float64)


def _fill(canvas: np.ndarray, corners: np.ndarray, colour: list[int]) -> None:
    """A convex polygon (P, 2), first corner last again: its outline and, in each row, what lies between its sides."""
    sides = [(a, b) for a, b in zip(corners[:-1], corners[1:], strict=True) if (a != b).any()]
    sides = sides or [(corners[0], corners[0])]  # all of it is one pixel
    pixels = np.concatenate([_line(*side) for side in sides] + [_crossings(*side) for side in sides])
    height, width = canvas.shape[:2]
    for row in range(max(int(pixels[:, 1].min()), 0), min(int(pixels[:, 1].max()) + 1, height)):
        columns = pixels[pixels[:, 1] == row, 0]
        canvas[row, max(int(columns.min()), 0) : max(min(int(columns.max()) + 1, width), 0)] = colour


def _crossings(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Pixels (P, 2) where a side crosses the rows from its upper end to before its lower end, in fixed point."""
    upper, lower = (start, end) if start[1] <= end[1] else (end, start)
    rows = int(lower[1] - upper[1])
    if not rows:
        return np.empty((0, 2), np.int64)
    across = int(lower[0] - upper[0]) * UNIT * 2 + rows
    slope = abs(across) // (2 * rows) * (1 if across >= 0 else -1)  # whole-number division towards zero
    down = np.arange(rows)
    return np.stack([(upper[0] * UNIT + down * slope + UNIT // 2) // UNIT, upper[1] + down], 1)


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Pixels (P, 2) of a line, one for every step along its longer side; halves round towards the left end."""
    first, last = (start, end) if start[0] <= end[0] else (end, start)
    delta = last - first
    long = int(np.abs(delta).argmax()) if abs(delta[0]) != abs(delta[1]) else 0
    length, rise = abs(int(delta[long])), abs(int(delta[1 - long]))
    steps = np.arange(length + 1)
    minor = (2 * steps * rise + length - 1) // max(2 * length, 1)
    pixels = np.empty((length + 1, 2), np.int64)
    pixels[:, long] = first[long] + np.sign(delta[long]) * steps
    pixels[:, 1 - long] = first[1 - long] + np.sign(delta[1 - long]) * minor
    return pixels


def _disc(canvas: np.ndarray, centre: np.ndarray, colour: np.ndarray, radius: int = RADIUS_PX) -> None:
    """All pixels at most `radius` from a point, whose fractions are cut off."""
    x, y = (int(value) for value in centre)
    rows = slice(max(y - radius, 0), max(y + radius + 1, 0))
    columns = slice(max(x - radius, 0), max(x + radius + 1, 0))
    part = canvas[rows, columns]
    down, across = np.ogrid[: part.shape[0], : part.shape[1]]
    part[(down + rows.start - y) ** 2 + (across + columns.start - x) ** 2 <= radius**2] = colour
