"""Lip references warped to the landmarks of the frame that is painted: a thin-plate spline through jaw and lips.

Shapes: B frames, R lip references of each, P landmarks, S side of a crop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ...face.lip_points import OUTER
from ...layers.thin_plate_spline import thin_plate_spline
from .masks import mouth_mask

SMOOTHING = 6e-4  # lets lips that touch in one picture be apart in the other; in a plane whose unit is a crop's side


def warped_lips(pictures: Tensor, points: Tensor, targets: Tensor) -> Tensor:
    """(B, R, 3, S, S) float32 pictures whose landmarks lie where those of the frames do; black beyond the edges.

    Args:
        pictures: (B, R, 3, S, S) of lips, in 0..1.
        points: (B, R, P, 2) landmarks of the pictures, 0..1 of the crop.
        targets: (B, P, 2) the frames' landmarks.
    """
    count, side = pictures.shape[1], pictures.shape[-1]
    at = (torch.arange(side) + 0.5) / side
    places = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1)
    values = points.transpose(1, 2).flatten(2)  # (B, P, 2 R): a frame's references have the same centres
    pairs = zip(targets.float().cpu(), values.float().cpu(), strict=True)
    maps = torch.stack([thin_plate_spline(*pair, places, SMOOTHING) for pair in pairs]).to(pictures.device)
    grid = maps.unflatten(2, (count, 2)).transpose(1, 2).reshape(-1, side, side, 2)
    moved = grid_sample(pictures.float().flatten(0, 1), 2 * grid - 1, mode="bilinear", align_corners=False)
    return moved.unflatten(0, (-1, count))


def lips_mask(points: Tensor, size: int) -> Tensor:
    """(B, 1, S, S) 1 on the lips and fading around them; of landmarks LIP_POINTS (B, 131, 2), 0..1 of the crop."""
    return mouth_mask(points[:, OUTER], size)[:, None]
