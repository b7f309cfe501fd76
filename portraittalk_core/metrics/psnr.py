"""Peak signal-to-noise ratio of two pictures."""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import InputError


def psnr(generated: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """10 · log10(data_range² / mean squared error) over all pixels and channels of one picture, in decibels.

    Args:
        generated: any shape.
        target: the same shape.
        data_range: greatest minus smallest possible value.

    Returns:
        Decibels; infinity for identical pictures.

    Raises:
        InputError: different shapes.
    """
    if generated.shape != target.shape:
        raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    error = float((generated.double() - target.double()).square().mean())
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)
