"""Parsers of numbers that a user writes into a text field."""

from __future__ import annotations

import json

from ..portraittalk_core.errors import InputError


def to_numbers(text: str, count: int, name: str) -> list[float] | None:
    """Numbers separated by commas; None of an empty text.

    Raises:
        InputError: not numbers, or not as many as asked for.
    """
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{name} must be numbers separated by commas, such as 1, 0.5, not {text!r}.") from error
    if len(numbers) != count:
        raise InputError(f"{name} holds {len(numbers)} numbers for {count} pictures; give one for each, or none.")
    return numbers


def to_layer_weights(text: str) -> dict[int, float]:
    """Factors of attention layers, by number, of a text such as "6: 0, 13: 1.5".

    Raises:
        InputError: not of this form.
    """
    try:
        pairs = [part.split(":") for part in text.replace(";", ",").split(",") if part.strip()]
        return {int(layer): float(factor) for layer, factor in pairs}
    except ValueError as error:
        raise InputError(f"layer_weights must look like 6: 0, 13: 1.5, not {text!r}.") from error


def to_points(text: str, name: str) -> tuple[tuple[float, float], ...]:
    """Pairs [seconds, value] of a text such as "[[0, 0], [4, 1]]"; none of an empty text or [].

    Raises:
        InputError: not of this form.
    """
    if not text.strip():
        return ()
    try:
        return tuple((float(second), float(value)) for second, value in json.loads(text))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} must look like [[0, 0], [4, 1]], not {text!r}.") from error
