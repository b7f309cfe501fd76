"""Structural similarity of two pictures."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import InputError, MissingDependency

WINDOW = 11


def ssim(generated: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """Mean structural similarity: Gaussian window 11×11 with σ 1.5, K 0.01 and 0.03, mean over the channels.

    Args:
        generated: (H, W, C), both sides at least 11.
        target: the same shape.
        data_range: greatest minus smallest possible value.

    Returns:
        −1..1; 1 for identical pictures.

    Raises:
        InputError: different shapes, or smaller than the window.
        MissingDependency: scikit-image is not installed.

    Source: Wang et al. 2004, computed by scikit-image.
    """
    if generated.shape != target.shape or generated.ndim != 3:
        raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    if min(generated.shape[:2]) < WINDOW:
        raise InputError(f"pictures of {tuple(generated.shape)} are smaller than the window of {WINDOW}×{WINDOW}.")
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingDependency("SSIM needs scikit-image; pip install scikit-image.") from error
    return float(
        structural_similarity(
            generated.numpy().astype(np.float32),
            target.numpy().astype(np.float32),
            data_range=data_range,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
