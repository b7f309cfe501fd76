"""The lips of a filmed mouth, cut where the frame shows their edges."""

from __future__ import annotations

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, pixel_box
from .bared_teeth import teeth_on_lip
from .open_mouth import on_lip_edges
from .sampler import picture_sampler

LIP_RIM = 0.028  # of the mouth's width: how far inside the landmarks of filmed open lips their texture begins at least
LOOKED_AT = 0.1  # of the mouth's width: how far around filmed lips their edges are looked for
OPEN = 0.06  # gap over width of a mouth from which it counts as open


def parted_lips(picture: Tensor, filmed: Tensor) -> Tensor:
    """(478, 2) landmarks with the inner lips of an open mouth cut inside the edges that a frame (H, W, 3) shows.

    A landmark lies a pixel or two off the true edge, on bared teeth more; without this, they stick to the closing lips.
    """
    mouth = Aperture.of(filmed, MOUTH)
    parted = min(1.0, mouth.gap / (OPEN * mouth.width))
    height, width = picture.shape[:2]
    box = pixel_box(filmed[list(topo.LIPS)], LOOKED_AT * mouth.width, (0, 0, width, height))
    if parted == 0 or box is None:
        return filmed
    sample = picture_sampler(picture, box)
    cut = on_lip_edges(sample, filmed)
    down = mouth.across
    for chain, outward in ((MOUTH[0], -down), (MOUTH[1], down)):
        inner = list(chain[1:-1])
        rim = LIP_RIM * mouth.width
        if chain == MOUTH[0]:
            rim = rim + teeth_on_lip(sample, filmed, mouth)
        lacking = rim - (cut - filmed)[inner] @ outward
        cut[inner] += lacking.clamp(min=0)[:, None] * outward
    return torch.lerp(filmed, cut, parted)
