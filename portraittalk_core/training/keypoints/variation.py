"""Random places, shapes and light of training pictures, with their landmarks and head rotations.

A face that stands in the same place whenever its mouth opens teaches an estimator places instead of mouths. Pictures
that are moved, zoomed, turned and bent at random leave the mouth alone to tell how far it is open.

Shapes: N pictures of S × S pixels, P landmarks. Places lie in -1..1 of the picture, its edges at -1 and 1.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from ...checks import check_range
from ...losses.equivariance import CONTROL_SIDE, RandomWarp

LARGEST = {"shift": 1.0, "zoom": 1.0, "stretch": 1.0, "turn_deg": 90.0, "bend": 0.02, "light": 2.0, "blur": 4.0}
LATTICE = 17  # points a side at which the spline is found, linear between them
INVERTING = 12  # steps of the fixed-point iteration that finds where landmarks go


@dataclass(frozen=True)
class Variation:
    """Largest random changes of a picture; 0 leaves one out. All are uniform, but `bend`, which is normal."""

    shift: float = 0.0  # of the place, over half the picture's side, right and down each
    zoom: float = 0.0  # of the size, natural logarithm
    stretch: float = 0.0  # of the width over the height, natural logarithm
    turn_deg: float = 0.0  # in the picture's plane
    bend: float = 0.0  # deviation of the weights of a thin-plate spline: other shapes of faces
    light: float = 0.0  # of gamma's natural logarithm, and of the light from one edge to the other
    blur: float = 0.0  # pixels that one becomes, without the first; only where keypoints learn alone

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            check_range(getattr(self, name), 0, largest, f"variation.{name}")

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))


@dataclass(frozen=True)
class PictureVariation:
    """The random change of some pictures."""

    warp: RandomWarp  # from places of the new pictures to those of the old
    angles: Tensor  # (N,) radians that the pictures are turned by, from x to y
    gamma: Tensor  # (N,)
    slope: Tensor  # (N, 2) of the light, right and down
    coarse: tuple[float, ...]  # pixels that one becomes

    @classmethod
    def draw(cls, variation: Variation, count: int, draw: np.random.Generator, same: bool = False) -> PictureVariation:
        """Random changes.

        Args:
            variation: how large they may be.
            count: N.
            draw: source of chance.
            same: one change for all of the pictures, without blur, since their colours are compared.
        """
        num_draws = 1 if same else count
        numbers = draw.uniform(-1, 1, (num_draws, 9))
        weights = variation.bend * draw.standard_normal((num_draws, CONTROL_SIDE**2, 2))
        if same:
            numbers, weights = (np.repeat(values, count, 0) for values in (numbers, weights))
        dx, dy, zoom, stretch, turn, gamma, right, down, blur = torch.from_numpy(numbers).float().unbind(1)
        angles = math.radians(variation.turn_deg) * turn
        wide, high = ((variation.zoom * zoom + sign * variation.stretch * stretch / 2).exp() for sign in (1, -1))
        turned = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).view(-1, 2, 2)
        back = torch.linalg.inv(turned @ torch.diag_embed(torch.stack([wide, high], -1)))
        offset = -back @ (variation.shift * torch.stack([dx, dy], -1))[..., None]
        line = torch.linspace(-1, 1, CONTROL_SIDE)
        control = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
        warp = RandomWarp(torch.cat([back, offset], -1), control, torch.from_numpy(weights).float())
        light = variation.light
        coarse = (1 + (0 if same else variation.blur) * blur.clamp(min=0)).tolist()
        return cls(warp, angles, (light * gamma).exp(), light * torch.stack([right, down], -1) / 2, tuple(coarse))

    def pictures(self, pictures: Tensor) -> Tensor:
        """Changed pictures (N, 3, S, S) in 0..1; what lies beyond the edge is mirrored."""
        count, _, side, _ = pictures.shape
        line = (torch.arange(side) + 0.5) * 2 / side - 1
        places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).expand(count, -1, -1, -1)
        lattice = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, LATTICE)] * 2, indexing="xy"), -1).view(1, -1, 2)
        warped = self.warp.points(lattice.expand(count, -1, -1)).mT.reshape(count, 2, LATTICE, LATTICE)
        grid = grid_sample(warped, places, align_corners=True).permute(0, 2, 3, 1)
        moved = grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
        slope = (places[0] @ self.slope.T).permute(2, 0, 1)[:, None].exp()
        lit = (moved.clamp(0, 1) ** self.gamma.view(-1, 1, 1, 1) * slope).clamp(0, 1)
        return torch.stack([_coarser(picture, factor) for picture, factor in zip(lit, self.coarse, strict=True)])

    def points(self, points: Tensor) -> Tensor:
        """Where landmarks (N, P, 2) of the old pictures are in the new ones."""
        to_new = torch.linalg.inv(self.warp.affine[:, :, :2])
        inverse = (points - self.warp.affine[:, None, :, 2]) @ to_new.mT
        for _ in range(INVERTING if bool(self.warp.weights.any()) else 0):
            inverse = inverse - (self.warp.points(inverse) - points) @ to_new.mT
        return inverse

    def rotations(self, rotations: Tensor) -> Tensor:
        """(N, 3, 3) rotations of the heads in the new pictures."""
        turn = torch.eye(3).repeat(len(self.angles), 1, 1)
        cos, sin = self.angles.cos(), self.angles.sin()
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = cos, -sin, sin, cos
        return turn @ rotations.float()


def _coarser(picture: Tensor, factor: float) -> Tensor:
    """A picture (3, S, S) with larger pixels, drawn at its own size again."""
    side = picture.shape[-1]
    small = max(8, round(side / factor))
    if small >= side:
        return picture
    fewer = interpolate(picture[None], (small, small), mode="bilinear", antialias=True, align_corners=False)
    return interpolate(fewer, (side, side), mode="bilinear", align_corners=False)[0]
