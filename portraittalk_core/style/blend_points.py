"""Control points of a blend of styles, from text."""

from __future__ import annotations

from ..checks import abbreviated, is_finite_number
from ..errors import InputError
from ..motion.points import read_points


def blend_points(text: str) -> tuple[tuple[float, float], ...]:
    """Points (second, share) of a blend from text.

    Args:
        text: JSON, a list of [seconds, share] pairs.

    Raises:
        InputError: no JSON, no pairs, or no points.
    """
    example = "[[0, 0], [4, 1]]"
    points = read_points(text, "blend", example, _blend_point)
    if not points:
        raise InputError(f"the list of blend points is empty; write it as {example}.")
    return tuple(points)


def _blend_point(entry: object, number: int) -> tuple[float, float]:
    is_pair = isinstance(entry, list) and len(entry) == 2 and all(map(is_finite_number, entry))
    if not is_pair:
        raise InputError(f"blend point {number} must be a pair [seconds, share], not {abbreviated(entry)}.")
    return float(entry[0]), float(entry[1])
