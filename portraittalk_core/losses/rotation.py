"""Loss of head rotation: absolute differences of rotation matrices.

Source: Wang et al. 2021, "One-shot free-view neural talking-head synthesis" (face-vid2vid), appendix A, head pose loss
‖R − R̄‖₁.
"""

from __future__ import annotations

from torch import Tensor

from ..checks import check_shape


def rotation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Sum of the absolute differences of the nine numbers, averaged over faces; about twice the angles in radians.

    Args:
        predicted: (B, 3, 3).
        target: (B, 3, 3).

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: other shapes.
    """
    check_shape(predicted, "B 3 3", "predicted rotations")
    check_shape(target, f"{len(predicted)} 3 3", "target rotations")
    return (predicted.float() - target.float()).abs().sum((1, 2)).mean()
