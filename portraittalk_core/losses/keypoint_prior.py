"""Prior of implicit keypoints: apart from each other, and at one mean depth.

Shapes: B faces, K keypoints.
Source: Wang et al. 2021, "One-shot free-view neural talking-head synthesis" (face-vid2vid), appendix A, keypoint prior
loss: Σ max(0, D − ‖x_i − x_j‖²) + |mean depth − z|, with D = 0.1 and z = 0.33.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_shape

APART, DEPTH = 0.1, 0.33  # squared distance below which a pair costs; mean depth


def keypoint_prior_loss(keypoints: Tensor, apart: float = APART, depth: float = DEPTH, num_guided: int = 0) -> Tensor:
    """Sum over ordered pairs of how much too near they are, plus the mean depth's error; averaged over faces.

    Args:
        keypoints: (B, K, 3), x, y and z in −1..1.
        apart: squared distance from which a pair costs nothing.
        depth: that the keypoints of a face shall have in the mean.
        num_guided: first keypoints that follow landmarks, which may lie as near to each other as those do.

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: another shape.
    """
    points = check_shape(keypoints, "B K 3", "keypoints").float()
    squared = (points[:, :, None] - points[:, None]).square().sum(-1)
    off_diagonal = ~torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    off_diagonal[:num_guided, :num_guided] = False
    cost = (apart - squared).clamp(min=0) * off_diagonal
    return (cost.sum((1, 2)) + (points[..., 2].mean(1) - depth).abs()).mean()
