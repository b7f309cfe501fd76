"""Conversion of what a FLOAT or CURVE socket holds to one number a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...portraittalk_core.checks import abbreviated
from ...portraittalk_core.errors import InputError


def frame_values(values: object, num_frames: int) -> float | Sequence[float]:
    """The numbers of a CURVE at every frame; what is no CURVE is given back as it is.

    A CURVE of newer ComfyUI spans 0..1 from its left to its right end: the clip's first and last frame.

    Args:
        values: a number, a list of numbers, a CURVE or what a widget holds for one: points and an interpolation.
        num_frames: of the clip.

    Raises:
        InputError: a curve that cannot be read.
    """
    curve = _read(values) if isinstance(values, Mapping) else values
    if not hasattr(curve, "interp_array"):
        return values
    at = np.linspace(0.0, 1.0, num_frames)
    return np.asarray(curve.interp_array(at), dtype=np.float64).tolist()


def _read(curve: Mapping) -> object:
    try:
        from comfy_api.input import CurveInput

        return CurveInput.from_raw(dict(curve))
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"a curve needs points [[0, 1], [1, 0.5]] and a ComfyUI that knows curves, not {abbreviated(dict(curve))}."
        ) from error
