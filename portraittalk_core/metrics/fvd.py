"""FVD: Fréchet distance of the clips of two videos (or sets of videos) by I3D's features.

Source: Unterthiner et al. 2018, "Towards accurate generative models of video", equation 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..types import check_picture
from .frechet import RunningGaussian, frechet_distance
from .meter import Meter, MetricContext

CLIP, SIDE = 16, 224  # frames, pixels


class ClipFeatures:
    """Features of a video's clips of 16 frames that do not overlap; one clip at a time is in memory.

    Args:
        network: (1, 3, 16, 224, 224) RGB −1..1 to (1, D): `networks.load.I3d`.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network = network
        self._waiting: list[Tensor] = []
        self._gaussian = RunningGaussian()

    def update(self, picture: Tensor) -> None:
        """Add the next frame, (H, W, 3) uint8 RGB; it is scaled bilinearly without antialiasing."""
        check_picture(picture, "the frame for FVD")
        planes = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
        self._waiting.append(F.interpolate(planes, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0])
        if len(self._waiting) == CLIP:
            with torch.no_grad():
                self._gaussian.update(self.network(torch.stack(self._waiting, 1)[None]))
            self._waiting = []

    def gaussian(self) -> RunningGaussian:
        """Mean and covariance of all whole clips so far."""
        return self._gaussian


def fvd(generated: ClipFeatures, target: ClipFeatures) -> float:
    """FVD of two sets of clips.

    Returns:
        ≥ 0; nearly 0 for the same clips. Too high for few clips.

    Raises:
        InputError: fewer than two clips of 16 frames in one of them.
    """
    both = generated.gaussian(), target.gaussian()
    if min(part.count for part in both) < 2:
        raise InputError(
            f"FVD of {both[0].count} and {both[1].count} clips of {CLIP} frames: two of each are needed ({2 * CLIP} "
            "frames), better hundreds."
        )
    return frechet_distance(*both)


class FramesFvd(Meter):
    """FVD of the clips of a pair of videos."""

    def __init__(self, context: MetricContext) -> None:
        self._generated, self._target = ClipFeatures(context.network), ClipFeatures(context.network)

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Add the next frame of both."""
        self._generated.update(generated)
        self._target.update(target)

    def result(self) -> float:
        """As `fvd`."""
        return fvd(self._generated, self._target)
