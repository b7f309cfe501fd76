"""FID: Fréchet distance of the frames of two videos (or sets of pictures) by Inception's features, by torchmetrics.

torchmetrics takes the covariances from sums of squares and the root's trace from the eigenvalues of their product, in
float64. With fewer pictures than features both are singular, and the distance of equal sets comes out some 1e-5 to
either side of 0; what falls below 0 is shown as 0.
Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..checks import check_finite
from ..errors import InputError, MissingDependency, ShapeError
from ..types import check_picture
from .meter import Meter, MetricContext
from .packages import TORCHMETRICS

BATCH = 8  # pictures at a time
FEW = 2048  # fewer pictures than features: the covariance is singular, and the distance too high


class FidMeter:
    """FID of pictures that come one by one; memory stays the same.

    Args:
        network: (B, 3, H, W) uint8 to (B, D), with the attribute `num_features`, D: `networks.inception.FidInception`
            with its weights.
        batch: pictures that go through at a time; all of one size.

    Raises:
        MissingDependency: torchmetrics is not installed.
    """

    def __init__(self, network: nn.Module, batch: int = BATCH) -> None:
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision beside it that fits another torch
            raise MissingDependency(f"FID needs {TORCHMETRICS}: {error}.") from error
        self.batch = batch
        # one video's number must not be joined with those of other processes
        self._metric = FrechetInceptionDistance(_Features(network), sync_on_compute=False)
        self._waiting: dict[bool, list[Tensor]] = {False: [], True: []}  # by: is it the target's?
        self._counts = {False: 0, True: 0}

    def update(self, picture: Tensor, of_target: bool) -> None:
        """Add the next picture, (H, W, 3) uint8 RGB, of the generated ones or the target's."""
        check_picture(picture, "the picture for FID")
        waiting = self._waiting[of_target]
        if waiting and waiting[0].shape != picture.shape:
            self._flush(of_target)
        waiting.append(picture)
        self._counts[of_target] += 1
        if len(waiting) >= self.batch:
            self._flush(of_target)

    def result(self) -> float:
        """FID of all so far.

        Returns:
            ≥ 0; nearly 0 (below 1e-3) for the same pictures. Too high for fewer than 2048 pictures.

        Raises:
            InputError: fewer than two pictures on one side.
        """
        if min(self._counts.values()) < 2:
            counts = f"{self._counts[False]} and {self._counts[True]}"
            raise InputError(f"FID of {counts} pictures: two of each are needed, better {FEW}.")
        self._flush(False)
        self._flush(True)
        return max(0.0, float(self._metric.compute()))

    def _flush(self, of_target: bool) -> None:
        if waiting := self._waiting[of_target]:
            self._metric.update(torch.stack(waiting).permute(0, 3, 1, 2), real=of_target)
            waiting.clear()


class _Features(nn.Module):
    """The network as torchmetrics takes it, its features checked and in float64, which the result then has too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.num_features = network, int(network.num_features)

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.network(pictures)
        if tuple(features.shape) != (len(pictures), self.num_features):
            expected = (len(pictures), self.num_features)
            raise ShapeError(f"the features for FID must have shape {expected}, but have {tuple(features.shape)}.")
        return check_finite(features, "the features for FID").double().cpu()


def fid(generated: Iterable[Tensor], target: Iterable[Tensor], network: nn.Module) -> float:
    """FID of two sets of pictures, which may have other numbers of them.

    Args:
        generated: each (H, W, 3) uint8 RGB.
        target: the same.
        network: as `FidMeter` takes it.

    Returns:
        ≥ 0; nearly 0 (below 1e-3) for the same pictures. Too high for fewer than 2048 pictures.

    Raises:
        InputError: fewer than two pictures on one side.
        MissingDependency: torchmetrics is not installed.
    """
    meter = FidMeter(network)
    for pictures, of_target in ((generated, False), (target, True)):
        for picture in pictures:
            meter.update(picture, of_target)
    return meter.result()


class FramesFid(Meter):
    """FID of the frames of a pair of videos."""

    def __init__(self, context: MetricContext) -> None:
        self._meter = FidMeter(context.network)

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Add the next frame of both."""
        self._meter.update(generated, of_target=False)
        self._meter.update(target, of_target=True)

    def result(self) -> float:
        """As `FidMeter.result`."""
        return self._meter.result()
