"""A neutral face in MediaPipe's 478 points: the model that head pose is measured against."""

from __future__ import annotations

from functools import cache
from importlib import resources

from safetensors.torch import load
from torch import Tensor


@cache
def canonical_face() -> Tensor:
    """(478, 3) symmetric face looking at the viewer.

    Unit: inter-ocular distance; origin between the eyes; x to the viewer's right, y down, z away from the viewer.
    Made by ``tools/make_canonical_face.py``, which says from what.
    """
    file = resources.files(__package__) / "data" / "canonical_face.safetensors"
    return load(file.read_bytes())["points"]
