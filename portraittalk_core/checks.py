"""Validation of arguments at the public border: shape, finiteness, range and choice.

Checks of numbers and words import no torch, so that ``--help`` need not wait for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

MAX_LETTERS = 60  # letters of a value in a message
MAX_TEXT = 20_000  # letters of a text that somebody gives, such as a prompt


def check_shape(tensor: Tensor, shape: str, name: str) -> Tensor:
    """Check a tensor against a shape such as ``"T 478 3"`` and return it.

    Args:
        tensor: what the caller gave.
        shape: one word per axis: a number is that size, a letter is any size (the same letter, the same size).
        name: what to call the tensor in the message.

    Raises:
        ShapeError: not a tensor, another number of axes, or another size.
    """
    from torch import Tensor

    axes = shape.split()
    if not isinstance(tensor, Tensor):
        raise ShapeError(f"{name} must be a tensor of shape ({', '.join(axes)}), not {type(tensor).__name__}.")
    sizes: dict[str, int] = {}
    fits = tensor.ndim == len(axes)
    for axis, size in zip(axes, tensor.shape, strict=False):
        expected = int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
        fits = fits and size == expected
    if not fits:
        raise ShapeError(f"{name} must have shape ({', '.join(axes)}), but has {tuple(tensor.shape)}.")
    return tensor


def check_finite(tensor: Tensor, name: str) -> Tensor:
    """Check that a tensor holds neither NaN nor infinity and return it.

    Raises:
        InputError: with the number of bad values.
    """
    import torch

    # the extremes show NaN and infinity without a copy of a long clip
    if tensor.numel() and not all(torch.isfinite(end) for end in torch.aminmax(tensor)):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(f"{name} holds {bad} values of {tensor.numel()} that are NaN or infinite; clean it first.")
    return tensor


def check_range(value: float, low: float, high: float, name: str) -> float:
    """Check that a number lies in low..high (ends included) and return it.

    Raises:
        InputError: not a finite number, or outside the range.
    """
    if not is_finite_number(value):
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {abbreviated(value)}.")
    if not low <= value <= high:
        raise InputError(f"{name} must lie between {low:g} and {high:g}, but is {beyond(value, low, high)}.")
    return value


def check_window(start: float, end: float, names: tuple[str, str], what: str) -> None:
    """Check that a part of the sampling steps is not empty.

    Args:
        start: 0 to 1.
        end: 0 to 1.
        names: of the two options.
        what: acts in it.

    Raises:
        InputError: it ends where it starts, or before.
    """
    if end <= start:
        raise InputError(
            f"{names[1]} {end:g} is not behind {names[0]} {start:g}: {what} would never act. Give a later end."
        )


def beyond(value: float, *limits: float | None, digits: int | None = None) -> str:
    """A number in as few digits as still show on which side of some limits it lies: no "is 20, but 20 are needed".

    Args:
        value: the number.
        limits: each of which it is not.
        digits: behind the point, at the least; None begins with as many as :g has.
    """
    value = float(value)
    others = [limit for limit in limits if limit is not None and limit != value]
    texts = [f"{value:g}" if digits is None else f"{value:.{digits}f}"]
    texts += [f"{value:.{more}f}" for more in range((digits or 0) + 1, 7)]
    exact = (text for text in texts if all((float(text) - limit) * (value - limit) > 0 for limit in others))
    return next(exact, repr(value))


def check_choice(value: str, choices: Sequence[str], name: str) -> str:
    """Check that a value is one of the choices and return it.

    Raises:
        InputError: with the list of choices.
    """
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def check_finite_number(value: float, name: str) -> float:
    """Check that a value is a finite number and return it.

    Raises:
        InputError: NaN, infinite, too large for a float, or no number.
    """
    if not is_finite_number(value):
        raise InputError(f"{name} must be a finite number, not {abbreviated(value)}.")
    return value


def check_text(value: str, name: str, is_path: bool = False) -> str:
    """Check that a text can be stored and passed on, and return it.

    Args:
        value: the text.
        name: what to call it in the message.
        is_path: whether it names a file, which may hold bytes that are no letters.

    Raises:
        InputError: it holds a NUL, letters that no encoding has, or more than MAX_TEXT letters.
    """
    if "\0" in value:
        raise InputError(f"{name} holds a NUL character, which no text and no path may: {abbreviated(value)}.")
    if len(value) > MAX_TEXT:
        raise InputError(f"{name} has {len(value)} letters; {MAX_TEXT} are allowed. Shorten it.")
    if not is_path and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{name} holds bytes that are no text in UTF-8: {abbreviated(value)}. Type it again.")
    return value


def parse_whole(text: object, name: str, low: int, high: int) -> int:
    """A whole number that a file gives as text.

    Raises:
        InputError: no whole number, or one outside low..high.
    """
    try:
        number = int(text)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {abbreviated(text)}.") from error
    return int(check_range(number, low, high, name))


def parse_number(text: object, name: str, low: float, high: float) -> float:
    """A number that a file gives as text.

    Raises:
        InputError: no finite number, or one outside low..high.
    """
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {abbreviated(text)}.") from error
    return check_range(number, low, high, name)


def is_same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file: by name, through links, or by another spelling of the same name."""
    try:
        if os.path.realpath(first) == os.path.realpath(second):
            return True
        return os.path.samefile(first, second)
    except (OSError, ValueError):  # one of them is not there, or no path
        return False


def is_finite_number(value: object) -> bool:
    """Whether a value is an int, float or Fraction that is finite as a float (10**400 is not)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number or fraction beyond the largest float
        return False


def abbreviated(value: object) -> str:
    """The repr of a value for a message, truncated to MAX_LETTERS letters."""
    text = repr(value)
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}…"
