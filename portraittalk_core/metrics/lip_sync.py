"""Agreement of predicted and true lip motion: correlation of curves, and errors free of a clip's own scale.

Shapes: T frames, N landmarks. All measures look at `valid` frames only, those in which the true face was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_finite, check_range, check_shape
from ..errors import InputError, ShapeError

MIN_FRAMES = 10  # fewer correlate by chance
MAX_LAG = 2  # frames; at 25 fps lips and sound this far apart look together
MAX_LAG_S = 0.2  # lips and sound further apart are seen to be apart by anyone
MIN_VARIATION = 1e-7  # a curve that varies by less, relative to its largest value, is constant: float32 rounds there


@dataclass(frozen=True)
class LipCorrelation:
    """Pearson correlation of a predicted and a true curve."""

    r_zero: float  # −1..1 as the curves stand
    r_best: float  # −1..1 at the best lag
    lag: int  # frames by which the prediction is moved later there; negative: the prediction comes too late


def lip_correlation(predicted: Tensor, true: Tensor, valid: Tensor, max_lag: int = MAX_LAG) -> LipCorrelation:
    """Correlation of mouth curves at zero lag and at the best lag within ±`max_lag` frames.

    Args:
        predicted: (T,) any unit.
        true: (T,) any unit.
        valid: (T,) bool.
        max_lag: frames; lags that leave fewer than 10 frames are not tried.

    Returns:
        0 for a curve that does not move; among equal lags the smallest.

    Raises:
        InputError: fewer than 10 valid frames, or values that are not numbers.
    """
    check_range(max_lag, 0, len(predicted), "max_lag")
    predicted, true = _checked(predicted, true, valid, "T")
    correlations = {}
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        early, late = slice(0, len(true) - abs(lag)), slice(abs(lag), len(true))
        moved, fixed = (early, late) if lag >= 0 else (late, early)  # predicted[t − lag] beside true[t]
        mask = valid[fixed]
        if int(mask.sum()) >= MIN_FRAMES:
            correlations[lag] = _pearson(predicted[moved][mask], true[fixed][mask])
    best = max(correlations, key=correlations.__getitem__)
    return LipCorrelation(correlations[0], correlations[best], best)


def affine_error(predicted: Tensor, true: Tensor, valid: Tensor) -> float:
    """Mean absolute error after the scale and offset that fit the prediction to this clip by least squares.

    Args:
        predicted: (T,) any unit.
        true: (T,) in inter-ocular distances.
        valid: (T,) bool.

    Returns:
        The true curve's unit. A constant prediction gets the true curve's mean deviation.

    Raises:
        InputError: fewer than 10 valid frames, or values that are not numbers.
    """
    predicted, true = _checked(predicted, true, valid, "T")
    return float(_misfit(predicted[valid], true[valid]).abs().mean())


def shift_error(predicted: Tensor, true: Tensor, valid: Tensor) -> float:
    """Mean distance of landmarks after the clip's best scale of all shifts and the best offset of each landmark.

    Args:
        predicted: (T, N, 2) shifts of landmarks from a reference frame, any unit.
        true: (T, N, 2) the same of the true face, in inter-ocular distances.
        valid: (T,) bool.

    Returns:
        The true shifts' unit. A still prediction gets the mean distance from each landmark's mean place.

    Raises:
        InputError: fewer than 10 valid frames, or values that are not numbers.
    """
    predicted, true = _checked(predicted, true, valid, "T N 2")
    return float(_misfit(predicted[valid], true[valid]).norm(dim=-1).mean())


def _checked(predicted: Tensor, true: Tensor, valid: Tensor, shape: str) -> tuple[Tensor, Tensor]:
    """Both motions in double precision; values of the true one in invalid frames are not checked."""
    check_finite(check_shape(predicted, shape, "the predicted motion"), "the predicted motion")
    check_shape(true, shape, "the true motion")
    check_shape(valid, "T", "the valid flags")
    if valid.dtype != torch.bool:
        raise ShapeError(f"the valid flags must be bool, not {valid.dtype}.")
    if predicted.shape != true.shape or len(true) != len(valid):
        sizes = f"{tuple(predicted.shape)}, {tuple(true.shape)} and {tuple(valid.shape)}"
        raise ShapeError(f"predicted and true motion and valid flags must be of one length, but have shapes {sizes}.")
    if int(valid.sum()) < MIN_FRAMES:
        raise InputError(f"{int(valid.sum())} of {len(valid)} frames are valid; at least {MIN_FRAMES} are needed.")
    check_finite(true[valid], "the true motion")
    return predicted.double(), true.double()


def _pearson(a: Tensor, b: Tensor) -> float:
    a, b = _centred(a), _centred(b)
    power = float(a.square().sum() * b.square().sum())
    return max(-1.0, min(1.0, float(a @ b) / power**0.5)) if power > 0 else 0.0


def _centred(curve: Tensor) -> Tensor:
    """A curve minus its mean over time; exactly zero if it only varies by rounding."""
    centred = curve - curve.mean(0)
    return centred * bool(centred.abs().max() > MIN_VARIATION * curve.abs().max())


def _misfit(predicted: Tensor, true: Tensor) -> Tensor:
    """Residuals of the least-squares scale and offset."""
    p, t = _centred(predicted), true - true.mean(0)
    power = float(p.square().sum())
    return t - (float((p * t).sum()) / power if power > 0 else 0.0) * p
