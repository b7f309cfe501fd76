"""Edge-aware upsampling of a coarse mask by the guided filter: edges of the mask move to edges of the picture.

Shapes: B pictures.
Source: He, Sun, Tang, "Guided Image Filtering", TPAMI 2013, equations 19 to 21; He, Sun, "Fast Guided Filter", 2015.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # entries of a symmetric 3×3 matrix


def guided_upsampled(
    mask: Tensor, guide: Tensor, size: tuple[int, int], radius: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Linear model of a mask in the colours of its picture.

    Args:
        mask: (B, 1, h, w) 0..1.
        guide: (B, 3, h, w) the picture in 0..1, of the mask's size.
        size: H, W of the result.
        radius: of the windows, pixels of the mask.
        epsilon: variance of colours below which a window counts as even, and the mask is only blurred.

    Returns:
        (B, 3, H, W) slopes and (B, 1, H, W) offsets: the fine mask is their product with the fine picture, summed.
    """
    means = _box(torch.cat([guide, mask], 1), radius)
    mean, mask_mean = means[:, :3], means[:, 3:]
    products = _box(torch.cat([guide[:, i : i + 1] * guide[:, j : j + 1] for i, j in PAIRS], 1), radius)
    covariance = _box(guide * mask, radius) - mean * mask_mean
    spread = [products[:, n] - mean[:, i] * mean[:, j] + epsilon * (i == j) for n, (i, j) in enumerate(PAIRS)]
    slopes = _solved(spread, covariance)
    offsets = mask_mean - (slopes * mean).sum(1, keepdim=True)
    both = F.interpolate(_box(torch.cat([slopes, offsets], 1), radius), size, mode="bilinear", align_corners=False)
    return both[:, :3], both[:, 3:]


def _box(x: Tensor, radius: int) -> Tensor:
    """Means over squares of 2 · radius + 1; beyond the border its pixels repeat."""
    side = 2 * radius + 1
    rows = sliding_sum(F.pad(x, (radius, radius, radius, radius), mode="replicate"), side, 3)
    return sliding_sum(rows, side, 2) / side**2


def sliding_sum(x: Tensor, length: int, axis: int) -> Tensor:
    """Sums of `length` neighbours along an axis, which gets `length` − 1 shorter; by sums of 1, 2, 4, 8 … neighbours.

    Source: the decomposition of windows into powers of two is common; torch's pooling adds every window anew.
    """
    count, total, done, width = x.shape[axis] - length + 1, None, 0, 1
    while True:
        if length & width:
            part = x.narrow(axis, done, count)
            total = part if total is None else total + part
            done += width
        if 2 * width > length:
            return total
        size = x.shape[axis] - width
        x = x.narrow(axis, 0, size) + x.narrow(axis, width, size)
        width *= 2


def sliding_max(x: Tensor, length: int, axis: int) -> Tensor:
    """Maxima of `length` neighbours along an axis, which gets `length` − 1 shorter."""
    width = 1
    while width < length:
        step = min(width, length - width)
        size = x.shape[axis] - step
        x = torch.maximum(x.narrow(axis, 0, size), x.narrow(axis, step, size))
        width += step
    return x


def _solved(matrix: list[Tensor], right: Tensor) -> Tensor:
    """(B, 3, h, w) solutions of a symmetric 3×3 system at every pixel, by cofactors."""
    a, b, c, d, e, f = matrix
    cofactors = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    determinant = a * cofactors[0] + b * cofactors[1] + c * cofactors[2]
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
    solution = [sum(cofactors[n] * right[:, k] for k, n in enumerate(row)) / determinant for row in rows]
    return torch.stack(solution, 1)
