"""Sketches of faces: thin grey lines between landmarks, as the networks of IP-LAP and its followers see them.

Shapes: T frames, S side of the pictures in pixels, N pixels of all lines.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), its
public code's drawings; J. E. Bresenham, "Algorithm for computer control of a digital plotter" (1965).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_shape
from .lip_points import EDGES, JAW, LIP_POINTS, MOUTH, POSE

__all__ = ["JAW", "LIP_POINTS", "MOUTH", "POSE", "draw_sketch"]

GREY = 224 / 255
BLOCK = 64  # frames that are drawn at once


def draw_sketch(
    points01: Tensor,
    size: int,
    crop_px: Tensor | None = None,
    edges: tuple[tuple[int, int], ...] = EDGES,
) -> Tensor:
    """Draw the sketches of face crops.

    Lines are one pixel thick and not antialiased. They are drawn in the crop's own shape, whose shorter side is `size`
    long, and that picture is resized to a square. A line whose end lies outside the crop is left out.

    Args:
        points01: (T, 131, 2) of `LIP_POINTS`, 0..1 of each crop.
        size: S.
        crop_px: (T, 2) width and height of each crop in pixels of the film; None: they are square.
        edges: landmarks that are joined, mesh indices.

    Returns:
        (T, 3, S, S) float32: 0, or grey of 224 / 255; between them where the crop is not square.
    """
    check_shape(points01, f"T {len(LIP_POINTS)} 2", "the points of a sketch")
    count = len(points01)
    canvas_px = torch.full((count, 2), size) if crop_px is None else _canvas_px(crop_px, size)
    place = {point: at for at, point in enumerate(LIP_POINTS)}
    ends = torch.tensor([[place[one], place[other]] for one, other in edges])
    sketches = torch.empty(count, 1, size, size)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        sketches[block] = _drawn(points01[block].double().cpu(), canvas_px[block], ends, size)
    return sketches.expand(-1, 3, -1, -1)


def _canvas_px(crop_px: Tensor, size: int) -> Tensor:
    """(T, 2) width and height of the pictures that are drawn in, in whole pixels."""
    sides = crop_px.long().cpu()
    return sides * size // sides.amin(1, keepdim=True).clamp(min=1)


def _drawn(points: Tensor, canvas_px: Tensor, ends: Tensor, size: int) -> Tensor:
    """(T, 1, S, S) of one block."""
    frames, x, y = _line_pixels(points, canvas_px, ends)
    width, height = canvas_px.amax(0).tolist()
    canvas = torch.zeros(len(points), 1, height, width)
    canvas[frames, 0, y, x] = GREY
    if bool((canvas_px == size).all()):
        return canvas
    sketches = torch.empty(len(points), 1, size, size)
    for shape in canvas_px.unique(dim=0):
        mask = (canvas_px == shape).all(1)
        part = canvas[mask, :, : int(shape[1]), : int(shape[0])]
        sketches[mask] = F.interpolate(part, (size, size), mode="bilinear", align_corners=False)
    return sketches


def _line_pixels(points: Tensor, canvas_px: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, column and row of each of the N pixels of all lines.

    A line runs from its left end. After i steps along its longer side of n pixels it has moved round(i · m / n) along
    the shorter one of m pixels, halves rounded towards the beginning.
    """
    inside = ((points >= 0) & (points <= 1)).all(2)  # NaN is not
    corner = canvas_px[:, None] - 1
    pixels = torch.minimum((torch.where(inside[..., None], points, 0) * canvas_px[:, None]).floor().long(), corner)
    frames, lines = torch.nonzero(inside[:, ends].all(2), as_tuple=True)
    first, last = pixels[frames, ends[lines, 0]], pixels[frames, ends[lines, 1]]
    swapped = (last[:, 0] < first[:, 0])[:, None]
    first, last = torch.where(swapped, last, first), torch.where(swapped, first, last)
    way = last - first
    length = way.abs().amax(1)
    of = torch.repeat_interleave(torch.arange(len(length)), length + 1)
    step = torch.arange(len(of)) - (torch.cumsum(length + 1, 0) - length - 1)[of]
    # ceil(i · m / n − 1 / 2), of whole numbers
    twice = 2 * length[of].clamp(min=1)[:, None]
    moved = -((length[of][:, None] - 2 * step[:, None] * way[of].abs()).div(twice, rounding_mode="floor"))
    at = first[of] + moved * way[of].sign()
    return frames[of], at[:, 0], at[:, 1]
