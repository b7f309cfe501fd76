"""Control points over time, as JSON lists that begin with seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import InputError
from ..media.text_files import parse_json

MAX_POINTS = 10_000
MAX_POINTS_BYTES = 2**20  # of a file of them

Point = TypeVar("Point", bound=tuple)


def read_points(text: str, what: str, example: str, parse: Callable[[object, int], Point]) -> list[Point]:
    """Control points, sorted by time; two at one time keep their order, and so make a step.

    Args:
        text: JSON, a list of points; empty or [] is none.
        what: "gain" or "emotion", for messages.
        example: of such a list, for messages.
        parse: from one entry and its number, from 1, to a tuple whose first value is seconds; raises InputError.

    Raises:
        InputError: no JSON, no list, too many points, or what `parse` raises.
    """
    if not text.strip():
        return []
    listed = parse_json(text, f"the list of {what} points", f"write it as {example}")
    if not isinstance(listed, list) or len(listed) > MAX_POINTS:
        raise InputError(f"the {what} points must be a list of at most {MAX_POINTS} entries such as {example}.")
    return sorted((parse(entry, number) for number, entry in enumerate(listed, 1)), key=lambda point: point[0])
