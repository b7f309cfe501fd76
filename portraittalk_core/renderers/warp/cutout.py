"""A portrait cut into its people and the background behind them, so that a head moves before a background that stays.

The people are kept as what they add to the background, which is exact where nothing moves: picture = people +
(1 − mask) · background, at soft edges such as hair too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.segmentation.person import portrait_mask
from .fill import filled

CLEAR = 0.02  # of the mask: what shows less of a person is background
MARGIN_PX = 1  # around the people, in which the background is not trusted


@dataclass(frozen=True)
class Cutout:
    """People and background of a picture."""

    mask: Tensor  # (H, W) 0..1, 1 on people
    background: Tensor  # (3, H, W) 0..255, filled behind them

    def people(self, picture: Tensor) -> Tensor:
        """(4, H, W) what they add to the background, −255..255, and 255 · mask."""
        added = picture.permute(2, 0, 1).float() - (1 - self.mask) * self.background
        return torch.cat([added, 255 * self.mask[None]])


def cut_out(picture: Tensor, points_px: Tensor) -> Cutout | None:
    """Cut the people out of a portrait; None where no person is recognised.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2) landmarks of the face, pixels.
    """
    mask = portrait_mask(picture, points_px)
    if mask is None:
        return None
    mask = torch.where(mask < CLEAR, 0.0, mask)
    covered = F.max_pool2d((mask > 0).float()[None], 2 * MARGIN_PX + 1, 1, MARGIN_PX)[0]
    known = 1 - covered
    if not bool(known.any()):
        return None
    colours = picture.permute(2, 0, 1).float()
    background = torch.where((mask > 0)[None], filled(colours, known), colours)
    return Cutout(mask, background)
