"""Colours of a part of a picture at any positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.aperture import Box

Sampler = Callable[[Tensor], Tensor]  # (…, 2) positions in pixels of the picture to (…, 3) colours 0..255


def picture_sampler(picture: Tensor, box: Box) -> Sampler:
    """What gives the colours of a part of a picture (H, W, 3) uint8."""
    x0, y0, x1, y1 = box
    return bilinear_sampler(picture[y0:y1, x0:x1].permute(2, 0, 1)[None].float(), box)


def bilinear_sampler(region: Tensor, box: Box) -> Sampler:
    """What gives the colours of a region by bilinear interpolation; beyond it, those of its edge.

    Args:
        region: (1, 3, h, w) 0..255, at any resolution.
        box: where it lies in the picture.
    """
    x0, y0, x1, y1 = box
    scale = 2 / torch.tensor([x1 - x0, y1 - y0], dtype=torch.float32)
    shift = -1 - torch.tensor([x0, y0], dtype=torch.float32) * scale  # of pixels, to grid_sample's −1..1

    def colours_at(positions: Tensor) -> Tensor:
        at = torch.addcmul(shift, positions.reshape(1, -1, 1, 2), scale)
        sampled = F.grid_sample(region, at, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled[0, :, :, 0].T.reshape(*positions.shape[:-1], 3)

    return colours_at
