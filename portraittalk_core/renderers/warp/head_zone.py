"""How far a head's own motion reaches where the background does not move with it: hair whole, neck and shoulders less.

Shapes: N positions, pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...face import topology as topo

MOUTH_LEVEL = 0.3  # of the face's height above the chin: from there upwards, what belongs to the head moves with it
MOST_HAIR, HAIR_SHARE = 0.8, 0.98  # of the face's height: how far hair reaches at most; of what is found, what counts
SAMPLES = 96  # positions along the picture's longer side at which hair is looked for
NECK = 0.55  # of the face's height: below the mouth's level, over which the motion fades at least


@dataclass(frozen=True)
class HeadZone:
    """The part of a picture that follows the head."""

    outline: Tensor  # (K, 2) the face's
    chin: Tensor  # (2,)
    up: Tensor  # (2,) from the chin to the forehead, of length 1
    height: float  # of the face
    hair: float  # how far outside the face's outline hair reaches
    fall: float  # distance over which the motion ends beyond the hair

    def carried(self, positions: Tensor) -> Tensor:
        """(N,) share 0..1 of the head's motion that positions (N, 2) take."""
        above = ((positions - self.chin) @ self.up) / self.height - MOUTH_LEVEL
        neck = max(NECK, self.fall / self.height)
        outside = _outside(positions, self.outline)
        return _eased(1 + above / neck) * _eased(1 - (outside - self.hair) / self.fall)

    def box(self, mask: Tensor, margin: float) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 around the people in (H, W) `mask` that move with the head, and around where they may get."""
        at, shown = _sampled(mask)
        moves = at[shown & (self.carried(at) > 0)]
        if not len(moves):
            return None
        (x0, y0), (x1, y1) = (moves.amin(0) - margin).tolist(), (moves.amax(0) + margin).tolist()
        return x0, y0, x1, y1


def head_zone(points_px: Tensor, mask: Tensor, fall_px: float) -> HeadZone:
    """The head around a face.

    Args:
        points_px: (478, 2) landmarks, pixels.
        mask: (H, W) 0..1, 1 on people.
        fall_px: distance over which motion may end without folding the picture.
    """
    outline, chin = points_px[list(topo.FACE_OVAL)], points_px[topo.CHIN]
    along = points_px[topo.FACE_OVAL[0]] - chin
    height = float(along.norm().clamp(min=1))
    up = along / height
    at, shown = _sampled(mask)
    beside = shown & ((at - chin) @ up > MOUTH_LEVEL * height)
    outside = _outside(at[beside], outline)
    outside = outside[(outside > 0) & (outside < MOST_HAIR * height)]
    hair = float(outside.quantile(HAIR_SHARE)) if len(outside) else 0.0
    return HeadZone(outline, chin, up, height, hair, max(fall_px, 1.0))


def _sampled(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (N, 2) over a picture, and whether a mask (H, W) shows somebody there."""
    step = max(1, math.ceil(max(mask.shape) / SAMPLES))
    rows, columns = torch.arange(step // 2, mask.shape[0], step), torch.arange(step // 2, mask.shape[1], step)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2) + 0.5, (mask[y, x] > 0).flatten()


def _outside(positions: Tensor, outline: Tensor) -> Tensor:
    """(N,) distances from a convex outline; 0 inside."""
    following = outline.roll(-1, 0)
    edge = following - outline
    along = ((positions[:, None] - outline) * edge).sum(-1) / (edge * edge).sum(-1).clamp(min=1e-6)
    distance = (positions[:, None] - outline - along.clamp(0, 1)[..., None] * edge).norm(dim=-1).amin(1)
    from_edge = positions[:, None] - outline
    side = edge[:, 0] * from_edge[..., 1] - edge[:, 1] * from_edge[..., 0]
    inside = (side >= 0).all(1) | (side <= 0).all(1)
    return torch.where(inside, 0.0, distance)


def _eased(share: Tensor) -> Tensor:
    """Smooth rise from 0 at 0 to 1 at 1."""
    share = share.clamp(0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)
