"""How sharp a picture shows a mouth: a still frame does, one in motion or out of focus does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import check_picture
from .lip_points import MOUTH_POINTS

ROOM = 0.2  # of the lips' box, beyond it on every side
LIGHT = (0.299, 0.587, 0.114)
SMALLEST_PX = 3  # of a box that a Laplacian can be taken of


def mouth_sharpness(picture: Tensor, points_px: Tensor) -> float:
    """Variance of the Laplacian of the brightness in a box around the lips.

    It also grows with contrast, as that of teeth: compare mouths that are open alike.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or 3) landmarks, pixels.

    Returns:
        Squared levels of 255; 0 where the mouth lies outside the picture.

    Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (ICPR 2000).
    """
    height, width = check_picture(picture, "the picture of the mouth").shape[:2]
    mouth = points_px[list(MOUTH_POINTS), :2]
    low, high = mouth.amin(0), mouth.amax(0)
    room = ROOM * (high - low)
    (left, top), (right, bottom) = (low - room).long().tolist(), (high + room).long().tolist()
    part = picture[max(top, 0) : min(bottom, height) + 1, max(left, 0) : min(right, width) + 1]
    if min(part.shape[:2]) < SMALLEST_PX or left >= width or top >= height:
        return 0.0
    grey = (part.float() @ torch.tensor(LIGHT))[None, None]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    return float(F.conv2d(grey, kernel[None, None]).var(correction=0))
