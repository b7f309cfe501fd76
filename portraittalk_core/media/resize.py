"""Resizing of pictures with the kernels and arithmetic that networks and public codes were trained with.

Sizes are (height, width), as shapes are. A box of a picture between its pixels is `face.crop.resampled`'s.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

REDUCING_GAP = 2.0  # `shrink_quickly` filters from a picture that is at least so many times larger than the result


def resize_planes(planes: Tensor, size: tuple[int, int], kernel: str = "bicubic") -> Tensor:
    """Planes (B, C, H, W) float at another size; where they shrink, the kernel widens, so that nothing aliases.

    Args:
        planes: of any range; "bicubic" may overshoot it.
        size: height and width.
        kernel: "bilinear" or "bicubic".
    """
    return F.interpolate(planes, size, mode=kernel, antialias=True, align_corners=False)


def resize_picture(picture: Tensor, size: tuple[int, int], kernel: str = "bicubic") -> Tensor:
    """A picture (H, W, 3) uint8 at another size, as `resize_planes` in whole numbers; itself where it has that size."""
    if tuple(picture.shape[:2]) == tuple(size):
        return picture
    scaled = resize_planes(picture.permute(2, 0, 1)[None].float(), size, kernel)[0]
    return scaled.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous()


def shrink_quickly(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (H, W, 3) uint8 at another size, nearly as filtered, many times faster; itself where it has that size.

    Pillow's bilinear, after whole pixels have been averaged as far as REDUCING_GAP allows: for looking at large
    pictures, not for what networks were trained on.
    """
    if tuple(picture.shape[:2]) == tuple(size):
        return picture
    image = Image.fromarray(picture.contiguous().numpy())
    scaled = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    return torch.from_numpy(np.array(scaled))


def resize_unfiltered(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (H, W, 3) uint8 at another size, bilinear between four pixels even where it shrinks, as OpenCV does it.

    A large picture never becomes float as a whole.

    Returns:
        (height, width, 3) float of whole numbers 0..255.
    """

    def places(old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
        at = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
        low = at.floor().long()
        return low, (low + 1).clamp(max=old - 1), (at - low).float()

    top, bottom, down = places(picture.shape[0], size[0])
    left, right, across = places(picture.shape[1], size[1])
    upper, lower = (
        torch.lerp(*(picture[rows][:, columns].float() for columns in (left, right)), across[None, :, None])
        for rows in (top, bottom)
    )
    return torch.lerp(upper, lower, down[:, None, None]).round()
