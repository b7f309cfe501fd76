"""Fréchet distance of two sets of features, each kept as a running mean and covariance.

It serves FVD, which no kept library has; FID goes through torchmetrics, by which this is tested.
Shapes: N samples, D features.
Source: Dowson and Landau 1982, equation 4; Heusel et al. 2017, equation 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError


class RunningGaussian:
    """Running mean and covariance of features; memory does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.empty(0, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add features (N, D).

        Raises:
            InputError: another width than before, or values that are not numbers.
        """
        check_finite(check_shape(features, "N D", "features"), "features")
        if not len(features):
            return
        part = features.detach().double().cpu()
        mean = part.mean(0)
        scatter = (part - mean).T @ (part - mean)
        if not self.count:
            self.count, self._mean, self._scatter = len(part), mean, scatter
            return
        if len(mean) != len(self._mean):
            raise InputError(f"features of {len(mean)} numbers cannot join features of {len(self._mean)}.")
        # Chan et al. 1979: merging keeps its digits where a sum of squares would lose them
        total, delta = self.count + len(part), mean - self._mean
        self._scatter += scatter + torch.outer(delta, delta) * (self.count * len(part) / total)
        self._mean = self._mean + delta * (len(part) / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(D,) float64."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, divided by N − 1.

        Raises:
            InputError: fewer than two samples.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs two samples, there are {self.count}; give more frames or clips.")
        return self._scatter / (self.count - 1)


def frechet_distance(generated: RunningGaussian, target: RunningGaussian) -> float:
    """Fréchet distance of two sets of features.

    Returns:
        ≥ 0; 0 for equal means and covariances.

    Raises:
        InputError: fewer than two samples in one of them, or features of different widths.
    """
    return gaussian_distance(generated.mean, generated.covariance, target.mean, target.covariance)


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½) of two normal distributions.

    Args:
        mean_a: (D,).
        covariance_a: (D, D), symmetric and not negative.
        mean_b: (D,).
        covariance_b: (D, D).

    Returns:
        ≥ 0.

    Raises:
        InputError: of different widths.
    """
    if mean_a.shape != mean_b.shape:
        raise InputError(f"features of {len(mean_a)} and {len(mean_b)} numbers cannot be compared.")
    a, b = covariance_a.double(), covariance_b.double()
    # tr (Σa Σb)^½ is that of the symmetric Σa^½ Σb Σa^½, whose root stays real where Σ is singular (few samples)
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    mean_term = (mean_a.double() - mean_b.double()).square().sum()
    return max(0.0, float(mean_term + a.trace() + b.trace() - 2 * shared))
