"""Lip references warped to the landmarks of the frame that is painted: a thin-plate spline through jaw and lips.

Shapes: B frames, R lip references of each, P landmarks, S side of a crop.
Source: F. Bookstein, "Principal Warps: Thin-Plate Splines and the Decomposition of Deformations", TPAMI 1989; the
smoothing, which lets lips that touch in one picture be apart in the other, is G. Wahba's, 1990.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from ...face.lip_points import OUTER
from .masks import mouth_mask

SMOOTHING = 3e-4  # on the kernel's diagonal, of a plane whose unit is a crop's side


def warped_lips(pictures: Tensor, points: Tensor, targets: Tensor) -> Tensor:
    """(B, R, 3, S, S) float32 pictures whose landmarks lie where those of the frames do; black beyond the edges.

    Args:
        pictures: (B, R, 3, S, S) of lips, in 0..1.
        points: (B, R, P, 2) landmarks of the pictures, 0..1 of the crop.
        targets: (B, P, 2) the frames' landmarks.
    """
    side = pictures.shape[-1]
    shape = points.shape[:2]
    targets, points = targets.float(), points.float()
    values = points.transpose(1, 2).flatten(2)  # (B, P, 2 R): every reference of a frame has the same centres
    weights = torch.linalg.solve(_system(targets), pad(values, (0, 0, 0, 3)))
    at = (torch.arange(side, device=targets.device) + 0.5) / side
    places = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1).expand(len(targets), -1, -1)
    found = torch.cat([_kernel(torch.cdist(places, targets)), _affine(places)], 2) @ weights  # (B, S², 2 R)
    grid = found.unflatten(2, (shape[1], 2)).transpose(1, 2).reshape(-1, side, side, 2)
    moved = grid_sample(pictures.float().flatten(0, 1), 2 * grid - 1, mode="bilinear", align_corners=False)
    return moved.unflatten(0, shape)


def lips_mask(points: Tensor, size: int) -> Tensor:
    """(B, 1, S, S) 1 on the lips and fading around them; of landmarks LIP_POINTS (B, 131, 2), 0..1 of the crop."""
    return mouth_mask(points[:, OUTER], size)[:, None]


def _system(centres: Tensor) -> Tensor:
    """(B, P + 3, P + 3) of the smoothed spline's equations."""
    count, affine = centres.shape[1], _affine(centres)
    kernel = _kernel(torch.cdist(centres, centres)) + SMOOTHING * torch.eye(count, device=centres.device)
    lower = pad(affine.transpose(1, 2), (0, 3))
    return torch.cat([torch.cat([kernel, affine], 2), lower], 1)


def _affine(places: Tensor) -> Tensor:
    """(B, N, 3) one, x and y of places (B, N, 2)."""
    return pad(places, (1, 0), value=1.0)


def _kernel(distances: Tensor) -> Tensor:
    """r² log r; 0 at 0."""
    return torch.special.xlogy(distances.square(), distances)
