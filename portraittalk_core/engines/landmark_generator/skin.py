"""How the skin between lips and jaw follows the points that IP-LAP's landmark generator predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.lip_points import CONTENT_POINTS
from ...motion.rig import SkinInterpolator, face_axes
from ...types import NUM_LANDMARKS


def skin_weights(points_px: Tensor) -> Tensor:
    """Skinning weights: how much each landmark follows each predicted point.

    Args:
        points_px: (478, 3) of the face at rest.

    Returns:
        (478, 57) weights: 1 for a moved point itself; the lips' middle rings follow the outer and the inner one by how
        near they lie; other skin lies smoothly between the lips, the jaw, and the still upper face.
    """
    axes, origin, unit = face_axes(points_px)
    rest = (points_px - origin) @ axes.T / unit
    identity = torch.zeros(NUM_LANDMARKS, len(CONTENT_POINTS))
    identity[list(CONTENT_POINTS), torch.arange(len(CONTENT_POINTS))] = 1
    lips = identity.clone()
    for rings in (topo.UPPER_LIP_RINGS, topo.LOWER_LIP_RINGS):
        for chain in zip(*rings, strict=True):
            steps = (rest[list(chain[1:])] - rest[list(chain[:-1])]).norm(dim=1)
            shares = steps.cumsum(0) / steps.sum().clamp(min=1e-6)
            for point, share in zip(chain[1:-1], shares[:-1], strict=True):
                lips[point] = torch.lerp(identity[chain[0]], identity[chain[-1]], share)
    weights = SkinInterpolator(rest).spread_over(lips, identity)
    weights[list(CONTENT_POINTS)] = identity[list(CONTENT_POINTS)]
    return weights
