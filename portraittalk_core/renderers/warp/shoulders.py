"""Shoulders that rise with the breath, below a head that has its own motion.

Shapes: N positions, pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import Box
from ...face.geometry import interocular_px

NECK = 0.55  # of the face's height: from the chin down to where the shoulders' motion is whole
BELOW, ASIDE = 1.15, 1.25  # of the face's height: how far below the chin, and beside it, anything moves
FALL = 0.5  # of the face's height, over which the motion ends inside the box


@dataclass(frozen=True)
class Shoulders:
    """The part of a picture that rises with the breath."""

    chin: Tensor  # (2,)
    up: Tensor  # (2,) from the chin to the forehead, of length 1
    height: float  # of the face
    unit_px: float  # inter-ocular distance
    size: tuple[int, int]  # width and height of the picture

    @staticmethod
    def of(points_px: Tensor, width: int, height: int) -> Shoulders:
        """The shoulders below a face of (478, 2) landmarks in a picture of this size."""
        chin = points_px[topo.CHIN]
        along = points_px[topo.FOREHEAD_TOP] - chin
        length = float(along.norm().clamp(min=1))
        return Shoulders(chin, along / length, length, float(interocular_px(points_px[None])[0]), (width, height))

    def around(self, corners: Tensor, most_px: float) -> Tensor:
        """(2, 2) corners around what moves and `corners` (2, 2), which grow beyond `most_px` only if they were larger.

        Small regions are sampled more finely; they stay small.
        """
        across = torch.stack([-self.up[1], self.up[0]])
        ends = [self.chin - BELOW * self.height * self.up + side * self.height * across for side in (-ASIDE, ASIDE)]
        ends = torch.stack([*ends, self.chin])
        inside = torch.tensor([0.0, 0.0]), torch.tensor(self.size, dtype=torch.float32)
        low = torch.minimum(corners[0], ends.amin(0).clamp(*inside))
        high = torch.maximum(corners[1], ends.amax(0).clamp(*inside))
        if float((corners[1] - corners[0]).amax()) <= most_px:
            spare = (most_px - (corners[1] - corners[0])).clamp(min=0)
            more_low, more_high = corners[0] - low, high - corners[1]
            scale = (spare / (more_low + more_high).clamp(min=1e-6)).clamp(max=1)
            low, high = corners[0] - scale * more_low, corners[1] + scale * more_high
        return torch.stack([low, high])

    def share(self, positions: Tensor, box: Box) -> Tensor:
        """(N,) 0..1 of the shoulders' motion that positions (N, 2) take, all of which ends inside a box of pixels.

        It does not end at the sides of the picture.
        """
        below = -((positions - self.chin) @ self.up) / self.height
        share = _eased(below / NECK)
        fall = FALL * self.height
        x, y = positions.unbind(1)
        x0, y0, x1, y1 = box
        along_y = abs(float(self.up[1])) > abs(float(self.up[0]))  # else somebody lies
        sides = ((x - x0, x0 <= 0 and along_y), (x1 - x, x1 >= self.size[0] and along_y))
        sides += ((y - y0, y0 <= 0 and not along_y), (y1 - y, y1 >= self.size[1] and not along_y))
        for distance, open_end in sides:
            if not open_end:
                share = share * _eased(distance / fall)
        return share

    def way_px(self, rise: Tensor) -> Tensor:
        """(B, 2) ways in pixels of (B,) inter-ocular distances."""
        return rise[:, None] * self.unit_px * self.up


def _eased(share: Tensor) -> Tensor:
    """Smooth rise from 0 at 0 to 1 at 1."""
    share = share.clamp(0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)
