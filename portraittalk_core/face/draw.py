"""Draws landmarks as a stick figure: face oval, brows, eyes, irises and lips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..checks import check_range, check_shape
from ..errors import InputError
from ..media.resize import shrink_quickly
from ..types import LandmarkTrack, check_picture
from . import topology as topo

SMOOTH = 3  # lines are drawn so many times larger, then averaged
MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
LINE_SHARE = 1 / 300  # line width over the picture's larger side

Colour = tuple[int, int, int]
GREY, AMBER, GREEN, BLUE, ROSE, RED = (
    (200, 200, 200),
    (245, 190, 80),
    (120, 220, 140),
    (90, 190, 255),
    (255, 130, 150),
    (235, 70, 90),
)


def _ring(upper: tuple[int, ...], lower: tuple[int, ...]) -> tuple[int, ...]:
    """A closed outline of two chains that both run from the viewer's left to the viewer's right."""
    return upper + lower[::-1]


CONTOURS: tuple[tuple[tuple[int, ...], Colour], ...] = (
    (topo.FACE_OVAL, GREY),
    (_ring(topo.RIGHT_BROW[5:], topo.RIGHT_BROW[:5]), AMBER),
    (_ring(topo.LEFT_BROW[5:], topo.LEFT_BROW[:5]), AMBER),
    (_ring(topo.RIGHT_UPPER_LID, topo.RIGHT_LOWER_LID), GREEN),
    (_ring(topo.LEFT_UPPER_LID, topo.LEFT_LOWER_LID), GREEN),
    (_ring(topo.OUTER_UPPER_LIP, topo.OUTER_LOWER_LIP), ROSE),
    (_ring(topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP), RED),
)
IRISES = (topo.RIGHT_IRIS, topo.LEFT_IRIS)


def draw_landmarks(
    track: LandmarkTrack,
    index: int | None = None,
    size: int | None = None,
    background: Tensor | Iterable[Tensor] | None = None,
) -> Iterator[Tensor]:
    """Draw the frames of a track one after the other.

    Args:
        track: what to draw.
        index: one frame only; None draws all.
        size: larger side of the pictures in pixels; None is that of the track.
        background: None is black; one (H, W, 3) uint8 picture stands behind every frame; else one picture a frame. They
            are scaled to the track's shape.

    Yields:
        (H, W, 3) uint8.

    Raises:
        InputError: no such frame, or a size outside 16..4096.
    """
    side = max(track.width, track.height)
    size = min(side, MAX_SIDE_PX) if size is None else size
    check_range(size, MIN_SIDE_PX, MAX_SIDE_PX, "the drawing's size")
    if index is not None and not 0 <= index < len(track):
        raise InputError(f"frame {index} was asked for, but the track holds frames 0 to {len(track) - 1}.")
    frames = range(len(track)) if index is None else [index]
    width, height = (max(1, round(length * size / side)) for length in (track.width, track.height))
    backgrounds = repeat(background) if background is None or isinstance(background, Tensor) else background
    return _draw_frames(track, frames, backgrounds, (width, height))


def _draw_frames(
    track: LandmarkTrack, frames: Iterable[int], backgrounds: Iterable[Tensor | None], size: tuple[int, int]
) -> Iterator[Tensor]:
    scale = torch.tensor(size, dtype=torch.float32)
    scaled: tuple[Tensor | None, Tensor] | None = None
    for frame, picture in zip(frames, backgrounds, strict=False):
        if scaled is None or scaled[0] is not picture:
            scaled = (picture, _canvas(picture, size))
        yield draw_face(scaled[1].clone(), track.points[frame, :, :2] * scale)


def draw_face(picture: Tensor, points_px: Tensor) -> Tensor:
    """Draw one stick figure into a picture and return it.

    Args:
        picture: (H, W, 3) uint8, drawn into in place.
        points_px: (478, 2 or 3) in pixels; may lie outside.
    """
    height, width = check_picture(picture, "the picture to draw into").shape[:2]
    check_shape(points_px, f"478 {points_px.shape[-1]}", "the points to draw")
    line = max(1.0, max(width, height) * LINE_SHARE)
    low = (points_px[:, :2].amin(0) - 2 * line).floor().long().tolist()
    high = (points_px[:, :2].amax(0) + 2 * line).ceil().long().tolist()
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if x0 >= x1 or y0 >= y1:
        return picture
    points = points_px[:, :2].numpy() - np.array([x0, y0], dtype=np.float32)
    strokes = _strokes(points, (x1 - x0, y1 - y0), line)
    part = picture[y0:y1, x0:x1].numpy()
    image = Image.fromarray(np.ascontiguousarray(part))
    image.paste(strokes, mask=strokes)
    part[:] = np.asarray(image)  # a view: writes into the picture
    return picture


def _strokes(points: np.ndarray, size: tuple[int, int], line: float) -> Image.Image:
    """RGBA colour and coverage of the lines."""
    # to whole pixels of the large canvas, whose middles lie half a pixel in; Pillow would cut the fraction off
    large = np.round(points * SMOOTH - 0.5)
    canvas = Image.new("RGBA", (size[0] * SMOOTH, size[1] * SMOOTH))
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(line * SMOOTH))
    for contour, colour in CONTOURS:
        outline = [tuple(point) for point in large[list((*contour, *contour[:2]))].tolist()]
        pen.line(outline, fill=(*colour, 255), width=width, joint="curve")
    for iris in IRISES:
        centre, rim = large[iris[0]], large[list(iris[1:])]
        radius = round(float(np.linalg.norm(rim - centre, axis=1).mean()))
        box = [*(centre - radius).tolist(), *(centre + radius).tolist()]
        pen.ellipse(box, outline=(*BLUE, 255), width=width)
    return canvas.reduce(SMOOTH)


def _canvas(picture: Tensor | None, size: tuple[int, int]) -> Tensor:
    width, height = size
    if picture is None:
        return torch.zeros(height, width, 3, dtype=torch.uint8)
    check_picture(picture, "the picture behind the landmarks")
    return shrink_quickly(picture, (height, width))
