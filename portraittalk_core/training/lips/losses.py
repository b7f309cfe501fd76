"""Losses of the lip renderer on pictures: VGG-19's features at two sizes, Gram matrices, or colours without VGG-19.

Shapes: B pictures, S side of the crops.
Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", section 3.3; J. Johnson et al. 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ...losses.networks.vgg19 import MIN_SIDE, load_vgg19
from ...losses.perceptual import PerceptualLoss
from ..keypoints.picture_losses import pixel_loss
from .config import LipTraining

TINY = 1e-6


@dataclass(frozen=True)
class Compared:
    """Losses of two batches of pictures."""

    features: Tensor  # scalar: VGG-19's features, or colours
    style: Tensor | None  # scalar: Gram matrices; None without VGG-19


class LipPictureLosses(nn.Module):
    """Compares pictures as a configuration says.

    Args:
        config: VGG-19's file, or `pixels`.
        size: S.
        perceptual: in the place of VGG-19's file.

    Raises:
        MissingDependency: the weight file is absent.
        InputError: it is no VGG-19.
    """

    def __init__(self, config: LipTraining, size: int, perceptual: PerceptualLoss | None = None) -> None:
        super().__init__()
        self.scales, self.whole_range = config.scales, config.vgg_range == "iplap"
        if perceptual is None and config.vgg19 is not None:
            scales = max(1, sum(size >> scale >= MIN_SIDE for scale in range(config.scales)))
            perceptual = PerceptualLoss(load_vgg19(config.vgg19), scales)
        self.perceptual = perceptual

    def forward(self, generated: Tensor, target: Tensor) -> Compared:
        """Losses of pictures (B, 3, S, S) in 0..1."""
        if self.perceptual is None:
            return Compared(pixel_loss(generated, target, self.scales), None)
        if self.whole_range:
            generated, target = (generated + 1) / 2, (target + 1) / 2
        losses = self.perceptual(generated, target)
        return Compared(losses.features, losses.gram)


def masked_difference(generated: Tensor, target: Tensor, mask: Tensor, power: int = 1) -> Tensor:
    """Mean absolute difference of pictures (B, 3, S, S), to a power, where a mask (B, S, S) is 1; a scalar."""
    mask = mask[:, None]
    away = ((generated.float() - target.float()).abs().pow(power) * mask).sum()
    return away / (mask.sum() * generated.shape[1]).clamp(min=TINY)
