"""Rows of teeth, drawn once at the sizes that portraits need, and looked up pixel by pixel.

Unit of all lengths: the width of the resting mouth, about 50 mm; a tooth's width and height are those of people's
(W. B. Saunders, "Wheeler's Dental Anatomy": central incisor 8.5 × 10.5 mm, canine 7.5 × 10 mm), shortened towards the
sides as the arch turns away.

Maps have three planes: cover, light (1 is a tooth's own colour) and gum (1 is gum, 0 tooth).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.aperture import Array, soft_step

HALF_WIDTH = 0.54  # of a map, to either side of the middle
ABOVE, BELOW = 0.26, 0.06  # of a map, from the biting edge to the gum's side and beyond the edge
SIZES = (48, 96, 192, 384)  # pixels of the picture over the mouth's width, for which there is a map
FINER = 2  # how many pixels a map has for one of the picture, and
OVERSAMPLED = 2  # how many are drawn for one of these
SEEN = 6  # of the drawn ones, a side: what one pixel of a camera sees, whose lens blurs a little
EDGE = 0.010  # softness of a tooth's outline
GAP = 0.0055  # half the width of the dark line between two teeth


@dataclass(frozen=True)
class ToothRow:
    """One row, from the middle to one side."""

    widths: tuple[float, ...]
    heights: tuple[float, ...]  # from the gum to the biting edge
    shorter: tuple[float, ...]  # how far each one's edge stays behind the longest
    corner: tuple[float, ...]  # how far the edge draws back at a tooth's corners
    tone: tuple[float, ...]  # how light each is
    rise: float  # the row's edge bends to the gum's side by this, times the square of the way aside
    turn: float  # how much light the row loses at the corners of the mouth


UPPER = ToothRow(
    widths=(0.158, 0.122, 0.112, 0.078, 0.060, 0.05),
    heights=(0.195, 0.170, 0.190, 0.165, 0.150, 0.14),
    shorter=(0.0, 0.013, 0.003, 0.012, 0.016, 0.02),
    corner=(0.014, 0.020, 0.036, 0.024, 0.016, 0.016),
    tone=(1.0, 0.965, 0.90, 0.86, 0.80, 0.76),
    rise=0.20,
    turn=0.62,
)
LOWER = ToothRow(
    widths=(0.100, 0.108, 0.112, 0.088, 0.066, 0.06),
    heights=(0.165, 0.165, 0.180, 0.155, 0.140, 0.13),
    shorter=(0.004, 0.0, 0.004, 0.012, 0.018, 0.02),
    corner=(0.010, 0.014, 0.030, 0.022, 0.016, 0.016),
    tone=(0.97, 0.98, 0.93, 0.86, 0.80, 0.76),
    rise=0.12,
    turn=0.60,
)


def sample_teeth(row: int, aside: Array, into: Array, unit_px: float) -> tuple[Array, Array, Array]:
    """Cover, light and gum of one row, each (N,) 0..1.

    Args:
        row: 0 of the upper teeth, 1 of the lower ones.
        aside: (N,) distances from the middle of the mouth.
        into: (N,) how far from the row's biting edge towards its gum.
        unit_px: the mouth's width in pixels.
    """
    size = next((size for size in SIZES if size >= 0.8 * unit_px), SIZES[-1])
    planes, width, height = _maps(size)
    # the map is finer than the picture: its nearest pixel is near enough
    density = np.float32(size * FINER)
    x, y = (aside * density).astype(np.intp), ((into + np.float32(BELOW)) * density).astype(np.intp)
    place = np.clip(y, 0, height - 1) * width + np.minimum(x, width - 1)
    return tuple(plane.take(place, mode="clip") for plane in planes[row])


@lru_cache(maxsize=len(SIZES))
def _maps(size: int) -> tuple[Array, int, int]:
    """(2, 3, height · width) both rows on one side, their first line beyond the biting edge; width; height."""
    sampling, reach = size * OVERSAMPLED * FINER, (SEEN - OVERSAMPLED) // 2
    width, height = round(HALF_WIDTH * size) * FINER, round((ABOVE + BELOW) * size) * FINER
    across = (torch.arange(-reach, width * OVERSAMPLED + reach) + 0.5) / sampling
    into = (torch.arange(-reach, height * OVERSAMPLED + reach) + 0.5) / sampling - BELOW
    fine = torch.stack([_draw(row, across[None, :], into[:, None]) for row in (UPPER, LOWER)])
    # each as a pixel of the picture sees it
    seen = F.avg_pool2d(fine, SEEN, OVERSAMPLED)
    return seen.flatten(2).numpy(), width, height


def _draw(row: ToothRow, across: Tensor, into: Tensor) -> Tensor:
    """(3, h, w) of one row at (1, w) positions across and (h, 1) from the biting edge to the gum."""
    edges = torch.cumsum(torch.tensor((0.0, *row.widths)), 0)
    index = torch.bucketize(across.abs(), edges[1:-1])
    near, far = edges[index], edges[index + 1]
    half = (far - near) / 2
    place = ((across.abs() - (near + far) / 2) / half).clamp(-1, 1)  # −1 towards the middle .. 1 towards the side
    of = {name: torch.tensor(getattr(row, name))[index] for name in ("heights", "shorter", "corner", "tone")}
    # corners draw back more on the side away from the middle
    lean = (place + 0.12).abs().clamp(max=1)
    depth = into - row.rise * across**2 - of["shorter"]
    cover = soft_step(depth - of["corner"] * lean**3.5, EDGE)
    share = (depth / of["heights"]).clamp(0, 1)  # 0 at the edge .. 1 at the gum
    beside = (1 - place.abs()) * half
    line = torch.exp(-((beside / GAP) ** 2)) * (0.27 - 0.14 * share)
    round_ = 1 - 0.20 * place.abs() ** 3 - 0.05 * place
    upright = 0.90 + 0.13 * soft_step(share - 0.16, 0.3) - 0.10 * soft_step(share - 0.80, 0.4)
    gleam = 0.06 * torch.exp(-(((place + 0.25) / 0.34) ** 2) - ((share - 0.42) / 0.22) ** 2)
    aside = (across.abs() / 0.5).clamp(max=1.1)
    turned = 1 - row.turn * aside**2.2
    light = (of["tone"] * round_ * upright + gleam) * (1 - line) * turned
    gum = soft_step(depth - of["heights"] + 0.045 * place.abs() ** 2.5, 0.018)
    light = torch.lerp(light, 0.95 * turned.expand_as(light), gum)
    return torch.stack([cover.expand_as(light), light, gum])
