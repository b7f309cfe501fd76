"""Options declared once: a dataclass field holds default, range and meaning; flags, widgets, checks and tables follow.

    @dataclass(frozen=True)
    class Example:
        mouth_gain: float = option(1.0, 0, 2, "0 keeps the mouth closed, 2 exaggerates")

        def __post_init__(self) -> None:
            check_options(self)

This module and those that declare options import no torch, so that ``--help`` need not wait for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import InputError

_KEY = "option"
_KINDS: dict[str, type] = {
    "bool": bool, "int": int, "float": float, "str": str, "Path": Path, "Fraction": Fraction,
}  # fmt: skip
_MANY = "tuple["  # the annotation of an option that takes several values


@dataclass(frozen=True)
class Option:
    """One option of a dataclass, as its field declares it."""

    name: str  # of the field
    kind: type  # of one value: bool, int, float, str, Path or Fraction
    default: Any
    help: str
    low: float | None = None  # ends included
    high: float | None = None
    choices: tuple[str, ...] = ()
    many: bool = False  # several values, as a tuple
    metavar: str = ""  # of the flag; empty takes the kind's
    step: float | None = None  # of a widget
    advanced: bool = False  # a widget that only some people need
    shared: bool = True  # a command's flag, a manifest's column; False for what only Python can give

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def optional(self) -> bool:
        """Whether the option may be left without a value."""
        return self.default is None


def option(  # noqa: PLR0913 - one parameter a property of an option
    default: Any,
    low: float | None = None,
    high: float | None = None,
    help: str = "",  # noqa: A002 - as argparse names it
    *,
    choices: Sequence[str] = (),
    metavar: str = "",
    step: float | None = None,
    advanced: bool = False,
    shared: bool = True,
    compare: bool = True,
) -> Any:
    """A dataclass field that is an option.

    Args:
        default: of the field; a callable makes one for every instance.
        low: the least number that is allowed.
        high: the largest.
        help: what it does, one sentence; the flag's help and the widget's tooltip.
        choices: the words that are allowed.
        metavar: what stands behind the flag in the help.
        step: of a widget.
        advanced: whether a widget is hidden among the advanced ones.
        shared: False for what only Python callers can give: it gets neither flag nor column.
        compare: as of `dataclasses.field`.
    """
    about = {"low": low, "high": high, "help": help, "choices": tuple(choices), "metavar": metavar, "step": step}
    about |= {"advanced": advanced, "shared": shared}
    made = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**made, metadata={_KEY: about}, compare=compare)


def options_of(kind: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in the order of its fields; other fields are passed over."""
    return tuple(_option_of(field) for field in dataclasses.fields(kind) if _KEY in field.metadata)


def option_of(kind: type, name: str) -> Option:
    """One option of a dataclass.

    Raises:
        KeyError: the dataclass has no such option.
    """
    return {one.name: one for one in options_of(kind)}[name]


def _option_of(field: dataclasses.Field) -> Option:
    annotation = str(field.type).removesuffix(" | None")
    many = annotation.startswith(_MANY)
    inner = annotation.removeprefix(_MANY).split(",")[0].rstrip("]") if many else annotation
    factory: Callable | object = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return Option(field.name, _KINDS.get(inner, object), default, many=many, **field.metadata[_KEY])


def check_options(record: object) -> None:
    """Check every option of a dataclass instance against its declared kind, range and choices.

    Raises:
        InputError: with the option's name, what is allowed, and the value received.
    """
    for one in options_of(type(record)):
        value = getattr(record, one.name)
        if value is None and one.optional:
            continue
        for single in value if one.many else (value,):
            check_option(one, single)


def check_option(one: Option, value: object) -> None:
    """Check one value of an option; see `check_options`."""
    if one.choices:
        if value not in one.choices:
            raise InputError(f"{one.name} must be one of {', '.join(one.choices)}, not {value!r}.")
    elif one.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{one.name} must be true or false, not {value!r}.")
    elif one.kind in (int, float, Fraction):
        _check_number(one, value)
    elif one.kind is str and not isinstance(value, str):
        raise InputError(f"{one.name} must be text, not {value!r}.")


def _check_number(one: Option, value: object) -> None:
    low, high = (-math.inf if one.low is None else one.low), (math.inf if one.high is None else one.high)
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)) or not math.isfinite(value):
        raise InputError(f"{one.name} must be a number from {low:g} to {high:g}, not {value!r}.")
    if one.kind is int and int(value) != value:
        raise InputError(f"{one.name} must be a whole number, not {value!r}.")
    if not low <= value <= high:
        raise InputError(f"{one.name} must lie between {low:g} and {high:g}, but is {float(value):g}.")
