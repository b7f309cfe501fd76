"""What several commands ask for or show alike: options of dataclasses, files to write, device, face mesh, tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import InputError
from ..face.options import FaceOptions
from ..frame_rate import as_fps
from ..media.options import WriteOptions
from ..options import Option, allowed_numbers, check_option, default_text, option_of, options_of

if TYPE_CHECKING:
    from ..face.mesh.landmarks import MeshBackend

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
TRACK_SUFFIXES = (".safetensors",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
METAVARS: dict[type, str] = {int: "N", float: "X", Path: "FILE", Fraction: "RATE"}
MOST_SHOWN = 100_000  # a number beyond is a limit of the computer, not a hint to a person

K = TypeVar("K")


def add_options(
    group: argparse._ActionsContainer,
    kind: type,
    names: Collection[str] | None = None,
    skip: Collection[str] = (),
    filled: bool = False,
) -> None:
    """Add a flag for every shared option of a dataclass; `options_from` makes the dataclass of those that are given.

    A flag that is not given is None, so that "given" can be told from "left alone"; the help shows the field's default.
    Where the parser has the flag already, from another dataclass, the two share it and both helps stand in it.

    Args:
        group: a parser, or a group of one.
        kind: a dataclass with `option` fields.
        names: of the fields to add; None adds all.
        skip: of fields to leave out.
        filled: whether a flag that is not given is the field's default instead of None.

    Raises:
        ValueError: another dataclass has a flag of the same name that takes other values.
    """
    title = getattr(group, "title", None)
    for one in options_of(kind):
        if one.shared and (names is None or one.name in names) and one.name not in skip:
            there = group._option_string_actions.get(one.flag)  # noqa: SLF001 - argparse tells it nowhere else
            if there is None:
                _add_flag(group, one, one.default if filled else None)
            else:
                _share_flag(there, one, title)


def options_from(args: argparse.Namespace, kind: type[K], **more: object) -> K:
    """A dataclass of the flags that were given; what was not keeps the dataclass's own default.

    Args:
        args: parsed, of a parser that `add_options` has worked on; a command need not have all flags.
        kind: the dataclass.
        more: further fields; they win over flags.

    Raises:
        InputError: a value that the option does not allow, with the flag's name.
    """
    return kind(**{**given_options(args, kind), **more})


def given_options(args: argparse.Namespace, kind: type) -> dict[str, object]:
    """The options of a dataclass whose flags were given, by field, checked.

    Raises:
        InputError: a value that the option does not allow, with the flag's name.
    """
    given = {}
    for one in options_of(kind):
        value = getattr(args, one.column, None) if one.shared else None
        if value is None:
            continue
        for single in value if one.many else (value,):
            check_option(one, single, one.flag)
        value = as_fps(value) if one.kind is Fraction else value
        given[one.name] = tuple(value) if one.many else value
    return given


def _add_flag(group: argparse._ActionsContainer, one: Option, default: object) -> None:
    told = {"dest": one.column, "default": default, "help": _help(one)}
    if one.kind is bool:
        off = one.default is True
        flag = one.flag.replace("--", "--no-", 1) if off else one.flag
        group.add_argument(flag, action="store_false" if off else "store_true", **told)
        return
    if one.metavar or not one.choices:
        told["metavar"] = one.metavar or METAVARS.get(one.kind, "TEXT")
    if one.choices:
        told["choices"] = one.choices
    if one.many:
        told |= {"nargs": one.nargs} if one.nargs else {"action": "append"}
    group.add_argument(one.flag, type=str if one.kind is Fraction else one.kind, **told)


def _share_flag(there: argparse.Action, one: Option, title: str | None) -> None:
    kind = bool if there.nargs == 0 else str if one.kind is Fraction else one.kind
    if there.nargs != 0 and there.type is not kind or (there.nargs == 0) != (one.kind is bool):
        raise ValueError(f"{one.flag} stands for two options of different kinds; give one of them another `column`.")
    if there.choices is not None:
        there.choices = tuple(dict.fromkeys((*there.choices, *one.choices))) if one.choices else None
    text = _help(one)
    if text != there.help:
        there.help = f"{there.help}; {title or 'else'}: {text}"


def _help(one: Option) -> str:
    """What it does, the range, and the default, as the other helps are written: no capital, no full stop."""
    text = one.help.rstrip(".")
    first = text.partition(" ")[0]
    text = text[:1].lower() + text[1:] if first[1:].islower() or len(first) == 1 else text  # SD1.5 and LoRA stay
    ends = [end for end in (one.low, one.high) if end is not None]
    span = allowed_numbers(one).removeprefix("from ") if ends and max(map(abs, ends)) <= MOST_SHOWN else ""
    default = default_text(one)
    more = ", ".join(part for part in (span, default and f"default: {default}") if part)
    return f"{text} ({more})".strip().replace("%", "%%") if more else text.replace("%", "%%")


@dataclass(frozen=True)
class Command:
    """One command: what the parser shows, adds and runs."""

    name: str
    purpose: str
    examples: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def add_file(parser: argparse.ArgumentParser, flag: str, metavar: str, meaning: str, required: bool = True) -> None:
    """A flag that takes a path."""
    parser.add_argument(flag, metavar=metavar, type=Path, required=required, help=meaning)


def add_portrait(parser: argparse.ArgumentParser) -> None:
    """The picture that is to speak."""
    add_file(parser, "--portrait", "PICTURE", "picture of a face, 128 to 4096 pixels a side")


def add_face(parser: argparse.ArgumentParser) -> None:
    """Which face, and what finds it."""
    group = parser.add_argument_group("face")
    add_options(group, FaceOptions, filled=True)
    add_mesh(group)


def add_mesh(group: argparse._ArgumentGroup) -> None:
    """What finds landmarks."""
    group.add_argument(
        "--mesh-backend", choices=("auto", "solutions", "tasks", "torch"), default="auto", help="what finds landmarks"
    )
    group.add_argument(
        "--mesh-model", metavar="FILE", type=Path, help="a face_landmarker.task file for the tasks back end"
    )


def add_video(parser: argparse.ArgumentParser) -> None:
    """How the video is written."""
    add_options(parser.add_argument_group("video"), WriteOptions, filled=True)


def check_output(out: Path, inputs: Iterable[Path], suffixes: tuple[str, ...]) -> Path:
    """Check before long work starts that a result can be written to `out`, and return it.

    Args:
        out: file to write.
        inputs: files that are read and must not be overwritten.
        suffixes: endings that are known, in lower case; empty allows any.

    Raises:
        InputError: unknown ending, or the same file as an input.
        OutputError: a folder, or in a folder that does not exist or cannot be written to.
    """
    from ..media.atomic import check_writable

    if suffixes and out.suffix.lower() not in suffixes:
        raise InputError(f"the output {out} must end in {' or '.join(suffixes)}.")
    check_writable(out)
    for path in inputs:
        if path.resolve() == out.resolve() or (out.exists() and path.exists() and path.samefile(out)):
            raise InputError(f"the output {out} is also the input {path}; choose another name, for it would be lost.")
    return out


def check_crf(crf: int) -> int:
    """Check an H.264 quality number, 0..51, and return it."""
    check_option(option_of(WriteOptions, "crf"), crf, "--crf")
    return crf


@contextmanager
def open_asked_mesh(args: argparse.Namespace) -> Iterator[MeshBackend]:
    """The mesh back end that is asked for, open."""
    from ..face.mesh.landmarks import open_mesh

    with open_mesh(args.mesh_backend, model_path=args.mesh_model) as mesh:
        yield mesh


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Show rows of cells under a title."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:  # the doctor must be able to tell what is missing even where rich is
        print(f"\n{title}", *("  ".join(row) for row in rows), sep="\n  ")
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*map(Text, row))  # as it stands: a path with [brackets] is no markup
    # A pipe or a log file has no width of its own; 80 columns would break paths and advice apart.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(table)
