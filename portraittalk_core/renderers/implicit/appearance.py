"""Appearance encoder: a face crop becomes a volume of features, once a source picture.

Source: arXiv 2011.15126, appendix A.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import DownBlock2d, ResBlock3d, SameBlock2d
from .sizes import ImplicitSizes


class AppearanceEncoder(nn.Module):
    """Convolutions to a quarter of the size, channels folded into depth, residual blocks in three dimensions."""

    def __init__(self, sizes: ImplicitSizes) -> None:
        super().__init__()
        width = sizes.width
        self.volume = sizes.volume_channels, sizes.volume_depth
        self.first = SameBlock2d(3, width)
        self.down_blocks = nn.ModuleList([DownBlock2d(width, 2 * width), DownBlock2d(2 * width, 4 * width)])
        self.second = nn.Conv2d(sizes.feature_width, sizes.volume_width, 1)
        blocks = {f"3dr{i}": ResBlock3d(sizes.volume_channels) for i in range(sizes.num_resblocks)}
        self.resblocks_3d = nn.Sequential()
        for name, block in blocks.items():
            self.resblocks_3d.add_module(name, block)

    def forward(self, crop: Tensor) -> Tensor:
        """(B, 3, S, S) RGB 0..1 to (B, C, D, S/4, S/4)."""
        x = self.first(crop)
        for block in self.down_blocks:
            x = block(x)
        return self.resblocks_3d(self.second(x).unflatten(1, self.volume))
