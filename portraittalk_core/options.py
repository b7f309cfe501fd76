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
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .checks import abbreviated, beyond, check_text, is_finite_number
from .errors import InputError
from .frame_rate import as_fps

_KEY = "option"
_KINDS: dict[str, type] = {
    "bool": bool, "int": int, "float": float, "str": str, "Path": Path, "Fraction": Fraction,
}  # fmt: skip
_MANY = "tuple["  # the annotation of an option that takes several values


@dataclass(frozen=True)
class Option:
    """One option of a dataclass, as its field declares it."""

    name: str  # of the field
    kind: type  # of one value: bool, int, float, str, Path, or Fraction for a frame rate
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
    column: str = ""  # of a manifest, and where the parser keeps the flag's value; empty takes the name
    nargs: str = ""  # of several values: "+" takes all behind one flag, empty takes one flag a value

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.column or self.name)

    @property
    def flag(self) -> str:
        """The command line's flag; what is on by default has one that switches it off."""
        off = "no-" if self.kind is bool and self.default is True else ""
        return f"--{off}{self.column.replace('_', '-')}"

    @property
    def whole(self) -> bool:
        """Whether it counts something."""
        return self.kind is int

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
    column: str = "",
    nargs: str = "",
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
        column: what manifests and, with dashes, the command line call it, where that is not the field's name.
        nargs: of a tuple: "+" takes all values behind one flag, empty takes one flag a value (``--lora A --lora B``).
    """
    about = {"low": low, "high": high, "help": help, "choices": tuple(choices), "metavar": metavar, "step": step}
    about |= {"advanced": advanced, "shared": shared, "column": column, "nargs": nargs}
    default_arguments = {"default_factory": default} if callable(default) else {"default": default}
    return dataclasses.field(**default_arguments, metadata={_KEY: about}, compare=compare)


def same_option(kind: type, name: str, **changes: Any) -> Any:
    """A dataclass field that is another dataclass's option, so that default, range and meaning stand there only.

    Args:
        kind: the dataclass that declares it.
        name: of its field.
        changes: what differs, as of `option`.
    """
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    about = field.metadata[_KEY] | changes
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory
    return option(about.pop("default", default), about.pop("low"), about.pop("high"), about.pop("help"), **about)


@functools.cache
def options_of(kind: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in the order of its fields; other fields are passed over."""
    return tuple(_option_of(field) for field in dataclasses.fields(kind) if _KEY in field.metadata)


def option_of(kind: type, name: str) -> Option:
    """One option of a dataclass.

    Raises:
        KeyError: the dataclass has no such option.
    """
    return {spec.name: spec for spec in options_of(kind)}[name]


@functools.cache
def columns_of(*kinds: type) -> Mapping[str, Option]:
    """The shared options of several dataclasses by their column; of two with one column, the first."""
    columns: dict[str, Option] = {}
    for kind in kinds:
        for spec in options_of(kind):
            if spec.shared:
                columns.setdefault(spec.column, spec)
    return MappingProxyType(columns)


def fields_given(kind: type, values: Mapping[str, object]) -> dict[str, object]:
    """Values of a dataclass's shared options by field, from values by column."""
    return {spec.name: values[spec.column] for spec in options_of(kind) if spec.shared and spec.column in values}


def _option_of(field: dataclasses.Field) -> Option:
    annotation = field.type.__name__ if isinstance(field.type, type) else str(field.type).removesuffix(" | None")
    many = annotation.startswith(_MANY)
    inner = annotation.removeprefix(_MANY).split(",")[0].rstrip("]") if many else annotation
    factory: Callable | object = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return Option(field.name, _KINDS.get(inner, object), default, many=many, **field.metadata[_KEY])


def check_options(record: object, **names: str) -> None:
    """Check every option of a dataclass instance against its declared kind, range and choices.

    Args:
        record: the instance.
        names: by field, what to call it in the message where its own name says too little.

    Raises:
        InputError: with the option's name, what is allowed, and the value received.
    """
    for spec in options_of(type(record)):
        value = getattr(record, spec.name)
        if value is None and spec.optional:
            continue
        for single in value if spec.many else (value,):
            check_option(spec, single, names.get(spec.name, ""))


def check_option(spec: Option, value: object, name: str = "") -> None:
    """Check one value of an option; see `check_options`.

    Args:
        spec: the option.
        value: of its field; of an option with several values, one of them.
        name: what to call it in the message, such as its flag; empty takes the field's name.
    """
    name = name or spec.name
    if spec.choices:
        if value not in spec.choices:
            raise InputError(f"{name} must be one of {', '.join(spec.choices)}, not {abbreviated(value)}.")
    elif spec.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, not {abbreviated(value)}.")
    elif spec.kind is Fraction:
        _check_number(spec, as_fps(value, name), name)
    elif spec.kind in (int, float):
        _check_number(spec, value, name)
    elif spec.kind is str:
        if not isinstance(value, str):
            raise InputError(f"{name} must be text, not {abbreviated(value)}.")
        check_text(value, name)
    elif spec.kind is Path and isinstance(value, (str, Path)):
        check_text(str(value), name, is_path=True)


def _check_number(spec: Option, value: object, name: str) -> None:
    if not is_finite_number(value):
        allowed = allowed_numbers(spec)
        domain = f"number {allowed}" if allowed else "finite number"
        raise InputError(f"{name} must be a {domain}, not {abbreviated(value)}.")
    if spec.kind is int and int(value) != value:
        raise InputError(f"{name} must be a whole number, not {abbreviated(value)}.")
    text = beyond(value, spec.low, spec.high)
    if spec.low is not None and spec.high is not None and not spec.low <= value <= spec.high:
        raise InputError(f"{name} must lie between {spec.low:g} and {spec.high:g}, but is {text}.")
    if spec.low is not None and value < spec.low:
        raise InputError(f"{name} must be at least {spec.low:g}, but is {text}.")
    if spec.high is not None and value > spec.high:
        raise InputError(f"{name} must be at most {spec.high:g}, but is {text}.")


def allowed_numbers(spec: Option) -> str:
    """The range of a number in words, such as "from 0 to 2"; empty where there is none."""
    low = "" if spec.low is None else f"from {spec.low:g}"
    high = "" if spec.high is None else f"{'to' if low else 'up to'} {spec.high:g}"
    return f"{low} {high}".strip()


def default_text(spec: Option) -> str:
    """The default in words; empty where it says nothing: none, false, no values."""
    if spec.default is None or spec.default is False or spec.default in ("", ()):
        return ""
    if spec.kind is bool:
        return "yes"
    values = spec.default if spec.many else (spec.default,)
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
