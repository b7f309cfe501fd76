"""A picture whose colours are looked up, four bytes at a time, instead of being interpolated anew for every frame.

Bilinear interpolation at the steps of a fine grid is done once; a frame takes the nearest step. The steps are a fifth
of a pixel, in large pictures a third, so that a colour comes from at most a tenth, or a sixth, of a pixel aside. Their
number is odd: a pixel that stays keeps its very colour.

Four bytes are one little-endian number: whole numbers take a third of the time of planes of bytes.

Shapes: h, w the picture.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FINE_STEPS, STEPS = 5, 3  # a pixel and axis
FINE_PIXELS = 640 * 640  # pictures up to so many have fine steps, which take 100 bytes a pixel
SHIFTS = torch.tensor([0, 8, 16], dtype=torch.int32)  # of red, green and blue in a pixel


class PackedPicture:
    """Colours and mask of a picture at any position.

    Args:
        planes: (4, H, W) uint8: red, green, blue and mask, at the picture's size or finer.
        height: h.
        width: w.
    """

    def __init__(self, planes: Tensor, height: int, width: int) -> None:
        self.steps = FINE_STEPS if height * width <= FINE_PIXELS else STEPS
        self.height, self.width = self.steps * height, self.steps * width
        fine = F.interpolate(planes[None], (self.height, self.width), mode="bilinear", align_corners=False)[0]
        table = torch.stack(fine.unbind(), -1).view(torch.int32)[..., 0]
        middle = self.steps // 2
        self.still = table[middle :: self.steps, middle :: self.steps].contiguous()  # (h, w) pixels that stay
        self.table = table.flatten()
        self.index = torch.zeros(2, 0, dtype=torch.int32 if len(self.table) < 2**31 else torch.int64)

    def at(self, came_from: Tensor, out: Tensor | None = None) -> Tensor:
        """(rows, columns) int32 pixels of four bytes.

        Args:
            came_from: (2, rows, columns) positions (x, y) in steps of this picture.
            out: where they go; new memory if None.
        """
        rows, columns = came_from.shape[1:]
        if self.index.shape[1] < rows * columns:
            self.index = torch.zeros(2, rows * columns, dtype=self.index.dtype)
        x, y = index = self.index[:, : rows * columns].view(2, rows, columns)
        index.copy_(came_from)
        x.clamp_(0, self.width - 1)
        x.add_(y.clamp_(0, self.height - 1), alpha=self.width)
        if out is not None and out.is_contiguous():
            return torch.index_select(self.table, 0, x.view(-1), out=out.view(-1))
        found = self.table.index_select(0, x.view(-1)).view(rows, columns)
        return found if out is None else out.copy_(found)


def bytes_of(pixels: Tensor) -> Tensor:
    """(…, 4) uint8 of (…) int32 pixels: the same memory."""
    return pixels[..., None].view(torch.uint8)


def colours_of(pixels: Tensor, out: Tensor | None = None) -> Tensor:
    """(3, …) float 0..255 of (…) int32 pixels."""
    shifts = SHIFTS.view(3, *[1] * pixels.dim())
    colours = (pixels >> shifts).bitwise_and_(255)
    return colours.float() if out is None else out.copy_(colours)


def mask_of(pixels: Tensor) -> Tensor:
    """(…) float 0..255 of (…) int32 pixels."""
    return (pixels >> 24).bitwise_and_(255).float()


def pixels_of(colours: Tensor) -> Tensor:
    """(…) int32 pixels of (3, …) float 0..255, rounded; their mask is 0."""
    red, green, blue = (colours + 0.5).to(torch.int32)
    return red.add_(green, alpha=1 << 8).add_(blue, alpha=1 << 16)


def write_pixels(pixels: Tensor, picture: Tensor, top: int, left: int) -> None:
    """Write the colours of (rows, columns) int32 pixels into a picture (H, W, 3) uint8, in place, from a corner on."""
    rows, columns = pixels.shape
    line = 3 * picture.shape[1]
    # four bytes are written at once and the next pixel overwrites the fourth: a third of the time of three planes
    shape, strides = (rows, columns - 1), (line, 3)
    four = np.ndarray(shape, "<i4", buffer=picture.numpy(), offset=top * line + 3 * left, strides=strides)
    four[...] = pixels.numpy()[:, :-1]
    picture[top : top + rows, left + columns - 1] = bytes_of(pixels[:, -1:])[:, 0, :3]
