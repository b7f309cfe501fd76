"""Losses of Audio2Exp on rendered frames: unlike outside the mouth, in sync inside it.

Shapes: N frames, S side of the pictures in pixels.
Source: ControlTalk, equations 4 to 6 and figure 3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...losses.networks.vgg19 import LAYERS, load_vgg19
from ...losses.perceptual import PerceptualLoss
from ..keypoints.picture_losses import pixel_loss

SCALES = 2


def outside_mouth(boxes: Tensor, size: int) -> Tensor:
    """(N, 1, S, S) masks, 0 in mouth boxes (N, 4) and 1 elsewhere."""
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(1))
    line = torch.arange(size, device=boxes.device)[None]
    rows, columns = (line >= y0) & (line < y1), (line >= x0) & (line < x1)
    return (~(rows[:, :, None] & columns[:, None, :])).float()[:, None]


def range_loss(expression: Tensor, low: Tensor, high: Tensor, spread: float) -> Tensor:
    """How far expressions (N, K, 3) lie beyond limits (K, 3), in units of `spread`: a scalar, the mean of squares."""
    return ((expression - expression.clamp(low, high)) / spread).square().mean()


class OutsideMouthLoss(nn.Module):
    """Perceptual loss of equation 4 with the mouth masked in both pictures; without VGG-19, of pixels at two sizes.

    Args:
        vgg19: its weight file.

    Raises:
        MissingDependency: there is no such file.
        InputError: it is no VGG-19.
    """

    def __init__(self, vgg19: Path | None) -> None:
        super().__init__()
        self.perceptual = None if vgg19 is None else PerceptualLoss(load_vgg19(vgg19), SCALES)

    def forward(self, generated: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
        """A scalar: the mean over layers and scales, of pictures (N, 3, S, S) in 0..1."""
        mask = outside_mouth(boxes, generated.shape[-1])
        generated, target = generated * mask, target * mask
        if self.perceptual is None:
            return pixel_loss(generated, target, SCALES) / SCALES
        return self.perceptual(generated, target).features / (SCALES * len(LAYERS))
