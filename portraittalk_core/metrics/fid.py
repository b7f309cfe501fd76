"""FID: Fréchet distance of the frames of two videos (or sets of pictures) by Inception's features.

Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from ..types import check_picture
from .frechet import RunningGaussian, frechet_distance

BATCH = 8  # pictures at a time
FEW = 2048  # fewer pictures than features: the covariance is singular, and the distance too high


class FrameFeatures:
    """Features of pictures that come one by one; memory stays the same.

    Args:
        network: (B, 3, H, W) uint8 to (B, D): `networks.inception.FidInception` with its weights.
        batch: pictures that go through at a time; all of one size.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], batch: int = BATCH) -> None:
        self.network, self.batch = network, batch
        self._waiting: list[Tensor] = []
        self._found = RunningGaussian()

    def update(self, picture: Tensor) -> None:
        """Take in the next picture, (H, W, 3) uint8 RGB."""
        check_picture(picture, "the picture for FID")
        if self._waiting and self._waiting[0].shape != picture.shape:
            self._flush()
        self._waiting.append(picture)
        if len(self._waiting) >= self.batch:
            self._flush()

    def gaussian(self) -> RunningGaussian:
        """Mean and covariance of all so far."""
        self._flush()
        return self._found

    @torch.no_grad()
    def _flush(self) -> None:
        if self._waiting:
            self._found.update(self.network(torch.stack(self._waiting).permute(0, 3, 1, 2)))
            self._waiting = []


def fid(generated: FrameFeatures, target: FrameFeatures) -> float:
    """FID of two sets of pictures.

    Returns:
        ≥ 0; nearly 0 (below 1e-3) for the same pictures. Too high for fewer than 2048 pictures.

    Raises:
        InputError: fewer than two pictures in one of them.
    """
    both = generated.gaussian(), target.gaussian()
    if min(part.count for part in both) < 2:
        raise InputError(f"FID of {both[0].count} and {both[1].count} pictures: two of each are needed, better {FEW}.")
    return frechet_distance(*both)
