"""Masks of the mouth in a face crop, from its landmarks.

Shapes: S side of the crop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...face.lip_points import MOUTH

LIPS_ROOM = 1.5  # sides of the box that lips are kept in, over those of the lips themselves
END, FADE = 1.25, 0.35  # of half the lips' width and height: where a mask of them ends, and over which it fades
FLATTEST = 0.1  # height of a mouth that is nearly shut, over its width


def around_lips(points: Tensor, size: int) -> Tensor:
    """(S, S) 1 in a box around the lips; of the (131, 2) landmarks LIP_POINTS, 0..1 of the crop."""
    mouth = points[MOUTH]
    low, high = mouth.amin(0), mouth.amax(0)
    middle, half = (low + high) / 2, LIPS_ROOM * (high - low) / 2
    at = _centres(size, points)
    inside = [((at - middle[axis]).abs() <= half[axis]).float() for axis in (0, 1)]
    return inside[1][:, None] * inside[0]


def mouth_mask(lips: Tensor, size: int) -> Tensor:
    """(..., S, S) 1 inside the lips and fading on them; of (..., 20, 2) landmarks of a line of lips, 0..1 of the crop.

    Of the inner lips it shows the inside of the mouth alone, of the outer ones the lips with it.
    """
    low, high = lips.amin(-2), lips.amax(-2)
    middle, half = (low + high) / 2, (high - low).clamp(min=1e-3) / 2
    x_half, y_half = half[..., 0], torch.maximum(half[..., 1], FLATTEST * half[..., 0])
    at = _centres(size, lips)
    x, y = ((at - middle[..., i, None]) / part[..., None] for i, part in enumerate((x_half, y_half)))
    return ((END - (x.square()[..., None, :] + y.square()[..., None]).sqrt()) / FADE).clamp(0, 1)


def _centres(size: int, like: Tensor) -> Tensor:
    """(S,) of the pixels, 0..1 of the crop."""
    return (torch.arange(size, device=like.device) + 0.5) / size
