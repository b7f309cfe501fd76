"""A picture whose colours are looked up, four bytes at a time, instead of being interpolated anew for every frame.

Bilinear interpolation at the steps of a fine grid is done once; a frame takes the nearest step. The steps are a fifth
of a pixel, in large pictures a third, so that a colour comes from at most a tenth, or a sixth, of a pixel aside. Their
number is odd: a pixel that stays keeps its very colour.

Shapes: h, w the picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FINE_STEPS, STEPS = 5, 3  # a pixel and axis
FINE_PIXELS = 640 * 640  # pictures up to so many have fine steps, which take 100 bytes a pixel


class PackedPicture:
    """Colours and mask of a picture at any position.

    Args:
        planes: (4, H, W) uint8: red, green, blue and mask, at the picture's size or finer.
        height: h.
        width: w.
    """

    def __init__(self, planes: Tensor, height: int, width: int) -> None:
        steps = FINE_STEPS if height * width <= FINE_PIXELS else STEPS
        size = (steps * height, steps * width)
        fine = F.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]
        # four bytes as one number: what only moves numbers does not care what they mean
        packed = torch.stack(fine.unbind(), -1).view(torch.float32)  # (steps · h, steps · w, 1)
        self.table = packed.permute(2, 0, 1)[None]

    def at(self, grid: Tensor) -> Tensor:
        """(rows, columns) int32 pixels of four bytes at (rows, columns, 2) positions (x, y), −1..1 of the picture."""
        taken = F.grid_sample(self.table, grid[None], mode="nearest", padding_mode="border", align_corners=False)
        return taken[0, 0].view(torch.int32)


def bytes_of(pixels: Tensor) -> Tensor:
    """(…, 4) uint8 of (…) int32 pixels: the same memory."""
    return pixels[..., None].view(torch.uint8)


def colours_of(pixels: Tensor) -> Tensor:
    """(3, …) float 0..255 of (…) int32 pixels."""
    return torch.stack(bytes_of(pixels).unbind(-1)[:3]).float()


def pixels_of(colours: Tensor) -> Tensor:
    """(…) int32 pixels of (3, …) float 0..255, rounded; their mask is 0."""
    planes = (colours + 0.5).to(torch.uint8)
    return torch.stack([*planes.unbind(), torch.zeros_like(planes[0])], -1).view(torch.int32)[..., 0]
