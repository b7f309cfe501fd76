"""Picture change: how much grey levels change from frame to frame, motion and flicker together."""

from __future__ import annotations

from ..errors import InputError
from .meter import FaceCurves


def picture_change(curves: FaceCurves) -> float:
    """Mean of the changes, 0..255 levels.

    Raises:
        InputError: fewer than two pictures.
    """
    if not len(curves.picture_change):
        raise InputError("there is one picture only")
    return float(curves.picture_change.mean())
