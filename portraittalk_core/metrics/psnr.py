"""Peak signal-to-noise ratio of two pictures."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError, MissingDependency
from .packages import KORNIA


def psnr(generated: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """10 · log10(data_range² / mean squared error) over all pixels and channels of one picture, by kornia.

    Args:
        generated: any shape.
        target: the same shape.
        data_range: greatest minus smallest possible value.

    Returns:
        Decibels; infinity for identical pictures.

    Raises:
        InputError: different shapes.
        MissingDependency: kornia is not installed.
    """
    if generated.shape != target.shape:
        raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    try:
        from kornia.metrics import psnr as kornia_psnr
    except ImportError as error:
        raise MissingDependency(f"PSNR needs {KORNIA}: {error}.") from error
    a, b = (picture.detach().cpu().double() for picture in (generated, target))  # kornia keeps the pictures' precision
    return float(kornia_psnr(a, b, float(data_range)))
