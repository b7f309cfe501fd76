"""Landmarks whose mouths are opened more or less, as an engine predicts them, for training and for scoring.

A film's own landmarks tell exactly how wide a mouth is open, so that nothing is left to hear. Landmarks that were
predicted from speech do not: there a renderer that hears can put right what they lack.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...face.lip_points import INNER, JAW, MOUTH

UPPER, LOWER = INNER.start + 5, INNER.start + 15  # middles of the inner lips, within LIP_POINTS
JAW_SHARE = 0.6  # of the lower lip's way, which the chin goes
LEAST_GAP = 1e-4  # of the crop


def scale_mouth_opening(points: Tensor, factor: float) -> Tensor:
    """Landmarks (..., 131, 2) with mouths opened by a factor: lower lip and jaw move, the upper lip stays.

    Args:
        points: LIP_POINTS, in any unit.
        factor: 1 changes nothing, 0 closes mouths, 2 opens them twice as wide. Closed mouths stay closed.
    """
    moved, upper = points.clone(), points[..., UPPER, None, :]
    gap = points[..., LOWER, None, :] - upper
    length = gap.square().sum(-1, keepdim=True).clamp(min=LEAST_GAP**2)
    mouth = points[..., MOUTH, :]
    share = (((mouth - upper) * gap).sum(-1, keepdim=True) / length).clamp(0, 1)
    moved[..., MOUTH, :] = mouth + share * (factor - 1) * gap
    along = torch.linspace(0, torch.pi, JAW.stop - JAW.start, device=points.device).sin()[:, None]
    moved[..., JAW, :] = points[..., JAW, :] + JAW_SHARE * along * (factor - 1) * gap
    return moved
