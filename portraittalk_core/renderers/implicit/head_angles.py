"""Head angles of keypoint models: degrees of bins, and rotations of degrees.

Bins are those of Hopenet (N. Ruiz et al. 2018, "Fine-Grained Head Pose Estimation Without Keypoints"): 3 degrees each.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEGREES_A_BIN = 3


def degrees_of_bins(logits: Tensor, first: float) -> Tensor:
    """(B,) float32 mean angles of (B, N) logits.

    Args:
        logits: of bins of 3 degrees.
        first: degrees that the first bin stands for.
    """
    bins = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    return (logits.float().softmax(1) * bins).sum(1) * DEGREES_A_BIN + first


def axis_rotations(rotation_deg: Tensor, half_turn: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations (B, 3, 3) by pitch about x, by yaw about y, by roll about z, for points as columns.

    Args:
        rotation_deg: (B, 3) pitch, yaw, roll.
        half_turn: what a family takes for pi.
    """
    sines, cosines = (f(rotation_deg / 180 * half_turn).unbind(1) for f in (torch.sin, torch.cos))
    zero, one = torch.zeros_like(sines[0]), torch.ones_like(sines[0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).reshape(-1, 3, 3)

    (sx, sy, sz), (cx, cy, cz) = sines, cosines
    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return about_x, about_y, about_z
