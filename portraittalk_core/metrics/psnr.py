"""Peak signal-to-noise ratio of two pictures."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import InputError, MissingDependency
from .packages import SKIMAGE


def psnr(generated: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """10 · log10(data_range² / mean squared error) over all pixels and channels of one picture, by scikit-image.

    Args:
        generated: any shape.
        target: the same shape.
        data_range: greatest minus smallest possible value.

    Returns:
        Decibels; infinity for identical pictures.

    Raises:
        InputError: different shapes.
        MissingDependency: scikit-image is not installed.
    """
    if generated.shape != target.shape:
        raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    try:
        from skimage.metrics import peak_signal_noise_ratio
    except ImportError as error:
        raise MissingDependency(f"PSNR needs {SKIMAGE}: {error}.") from error
    # doubles, for it would count in the pictures' own digits; identical pictures divide by 0
    pictures = (picture.detach().cpu().double().numpy() for picture in (target, generated))
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(*pictures, data_range=data_range))
