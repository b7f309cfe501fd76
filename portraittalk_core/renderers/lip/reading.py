"""References of a footage: chosen and read from a film, or the one picture of a portrait."""

from __future__ import annotations

from torch import Tensor

from .contract import References
from .crop import LipBoxes
from .footage import Footage
from .options import LipPaintOptions


def references_of(footage: Footage, boxes: LipBoxes, weights: Tensor, options: LipPaintOptions) -> References:
    """The references of a footage; see `references`."""
    raise NotImplementedError
