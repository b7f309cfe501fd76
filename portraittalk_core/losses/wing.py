"""Wing loss: a distance of landmarks that counts small errors more than L1 and large ones as L1.

Source: Feng et al. 2018, "Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural Networks",
equation 5: w ln(1 + |x| / ε) below w, else |x| − C with C = w − w ln(1 + w / ε); w = 10 and ε = 2 pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import check_shape

WIDTH_PX, CURVATURE_PX = 10.0, 2.0


def wing_loss(predicted: Tensor, target: Tensor, width: float = WIDTH_PX, curvature: float = CURVATURE_PX) -> Tensor:
    """Mean wing loss of points (..., 2), both in pixels; a scalar, float32.

    Args:
        predicted: points that learn.
        target: where they should be, of the same shape.
        width: w, from which on an error counts as it is.
        curvature: ε, how steep small errors are.

    Raises:
        ShapeError: other shapes.
    """
    check_shape(target, " ".join(str(n) for n in predicted.shape), "wanted points")
    distance = (predicted.float() - target.float()).abs()
    offset = width - width * math.log1p(width / curvature)
    return torch.where(distance < width, width * torch.log1p(distance / curvature), distance - offset).mean()
