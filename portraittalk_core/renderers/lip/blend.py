"""What of a painted crop is pasted: masks of the lower face, and the sharpness of the film's own.

Shapes: B frames, S side of a crop.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.lip_points import INNER_LIPS
from ...face.topology import FACE_OVAL
from ..paste import box_mask, face_mask
from .masks import mouth_mask
from .options import MOUTH

EDGE = 0.04  # of the crop's side: over which whatever is pasted fades at its edge
DILATION = 0.01  # of the face's size: how far beyond its outline a painting counts in full
UPPER_END = 0.53  # of the crop's height: above it lies what the models see, below what they paint anew
UPPER_FADE = 0.14  # of the crop's height: over which a lower face fades in, ending at `UPPER_END`
MOST_SHARPENING = 1.6  # factor of the fine structure of a painted crop
STEADY_S = 0.3  # time constant with which the sharpening changes
NOISE = 0.5 / 255  # a structure as small as that is rounding


def blend_mask(shapes: Tensor, size: int, blend: str, feather: float) -> Tensor:
    """(S, S) mask 0..1 over a crop, 0 at its edge.

    Args:
        shapes: (K, 478, 2) landmarks 0..1 of the crop that it covers: as they are filmed, and as they are painted.
        size: S.
        blend: "lower", "face", "box" or "mouth", see `LipPaintOptions`.
        feather: width of the soft edge, of the face's size.
    """
    if blend == MOUTH:
        return mouth_mask(shapes[-1, list(INNER_LIPS), :2], size) * box_mask(EDGE, size)
    oval = shapes[:, list(FACE_OVAL)]
    edge = box_mask(EDGE if blend != "box" else max(EDGE, min(0.5, feather)), size)
    if blend == "box" or not bool(oval.isfinite().all()):
        return edge
    mask = edge * face_mask(shapes, feather, size, DILATION)
    return mask if blend == "face" else mask * _lower_rows(size)[:, None]


def _lower_rows(size: int) -> Tensor:
    """(S,) 0 in a crop's upper part, 1 in the part that is painted anew."""
    rows = (torch.arange(size) + 0.5) / size
    share = ((rows - (UPPER_END - UPPER_FADE)) / UPPER_FADE).clamp(0, 1)
    return share * share * (3 - 2 * share)


class Sharpener:
    """Brings painted crops to the sharpness of the film's own: networks paint smoother than they see.

    The fine structure of the painted lower face is amplified until it is as strong as that of the filmed one. What it
    takes changes slowly, so that neither an open mouth nor a closed one makes the skin shimmer.

    Args:
        amount: 0..1, how far.
        fps: frames per second.
    """

    def __init__(self, amount: float, fps: float) -> None:
        self._amount, self._follow = amount, 1 - math.exp(-1 / (STEADY_S * fps))
        self._gain: float | None = None

    def restart(self) -> None:
        """Forget the film so far: another scene begins."""
        self._gain = None

    def sharpen(self, painted: Tensor, filmed: Tensor, mask: Tensor) -> Tensor:
        """One painted crop, sharpened.

        Args:
            painted: (3, S, S) float 0..1.
            filmed: (3, S, S) the film's own crop.
            mask: (S, S) of what will be pasted.

        Returns:
            (3, S, S) float 0..1.
        """
        if self._amount == 0:
            return painted
        fine = painted - _blurred(painted)
        weight = mask / mask.sum().clamp(min=1e-6)
        wanted, given = (_strength(part, weight) for part in (filmed - _blurred(filmed), fine))
        now = min(MOST_SHARPENING, max(1.0, wanted / max(given, NOISE)))
        self._gain = now if self._gain is None else self._gain + self._follow * (now - self._gain)
        return (painted + self._amount * (self._gain - 1) * fine).clamp(0, 1)


def _strength(fine: Tensor, weight: Tensor) -> float:
    """Root mean square of a fine structure (3, S, S), with (S, S) weights that add up to 1."""
    return float((fine.square().mean(0) * weight).sum().sqrt())


def _blurred(crop: Tensor) -> Tensor:
    """(3, S, S) mean of 3 × 3 pixels, twice."""
    planes = crop[None]
    for _ in range(2):
        planes = F.avg_pool2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return planes[0]
