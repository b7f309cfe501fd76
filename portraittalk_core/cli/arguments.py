"""Arguments and output that commands share: options of dataclasses, output files, device, face mesh, tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..checks import is_same_file
from ..errors import InputError, OutputError
from ..face.options import FaceOptions, named_in
from ..frame_rate import as_fps
from ..media.options import WriteOptions
from ..options import Option, allowed_numbers, check_option, default_text, option_of, options_of
from .validation import FilesOf, OutputAction, declare_option

if TYPE_CHECKING:
    from ..face.choice import FaceChoice
    from ..face.mesh.landmarks import MeshBackend

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
TRACK_SUFFIXES = (".safetensors",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
METAVARS: dict[type, str] = {int: "N", float: "X", Path: "FILE", Fraction: "RATE"}
MAX_SHOWN_LIMIT = 100_000  # a larger bound is a technical limit, which the help leaves out

K = TypeVar("K")


def add_options(
    group: argparse._ActionsContainer,
    kind: type,
    names: Collection[str] | None = None,
    skip: Collection[str] = (),
    filled: bool = False,
) -> None:
    """Add a flag for every shared option of a dataclass; `options_from` builds the dataclass from parsed flags.

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
    for option in options_of(kind):
        if option.shared and (names is None or option.name in names) and option.name not in skip:
            action = group._option_string_actions.get(option.flag)  # noqa: SLF001 - argparse tells it nowhere else
            if action is None:
                _add_flag(group, option, option.default if filled else None)
            else:
                _share_flag(action, option, title)


def options_from(args: argparse.Namespace, kind: type[K], **more: object) -> K:
    """Build a dataclass from parsed flags; absent ones keep the dataclass's defaults.

    Args:
        args: parsed, of a parser that `add_options` has worked on; a command need not have all flags.
        kind: the dataclass.
        more: further fields; they win over flags.

    Raises:
        InputError: a value that the option does not allow, with the flag's name.
    """
    return kind(**{**given_options(args, kind), **more})


def given_options(args: argparse.Namespace, kind: type) -> dict[str, object]:
    """Checked values of a dataclass's flags that are present, by field.

    Raises:
        InputError: a value that the option does not allow, with the flag's name.
    """
    values = {}
    for option in options_of(kind):
        value = getattr(args, option.column, None) if option.shared else None
        if value is None:
            continue
        for single in value if option.many else (value,):
            check_option(option, single, option.flag)
        value = as_fps(value) if option.kind is Fraction else value
        values[option.name] = tuple(value) if option.many else value
    return values


def _add_flag(group: argparse._ActionsContainer, option: Option, default: object) -> None:
    settings = {"dest": option.column, "default": default, "help": _help(option)}
    if option.kind is bool:
        action = "store_false" if option.default is True else "store_true"
        group.add_argument(option.flag, action=action, **settings)
        return
    if option.metavar or not option.choices:
        settings["metavar"] = option.metavar or METAVARS.get(option.kind, "TEXT")
    if option.choices:
        settings["choices"] = option.choices
    if option.many:
        settings |= {"nargs": option.nargs} if option.nargs else {"action": "append"}
    declare_option(
        group.add_argument(option.flag, type=str if option.kind is Fraction else option.kind, **settings), option
    )


def _share_flag(action: argparse.Action, option: Option, title: str | None) -> None:
    kind = bool if action.nargs == 0 else str if option.kind is Fraction else option.kind
    if action.nargs != 0 and action.type is not kind or (action.nargs == 0) != (option.kind is bool):
        raise ValueError(f"{option.flag} stands for two options of different kinds; give one of them another `column`.")
    if action.choices is not None:
        action.choices = tuple(dict.fromkeys((*action.choices, *option.choices))) if option.choices else None
    declare_option(action, option)
    first, *_ = titles = getattr(action, "titles_of_texts", {action.help: []})  # of the groups that share the flag
    action.titles_of_texts = titles
    titles.setdefault(_help(option), []).append((title or "else").partition(" (")[0])
    others = (f"{', '.join(groups)}: {text}" for text, groups in titles.items() if text != first)
    action.help = "; ".join([first, *others])


def _help(option: Option) -> str:
    """Help text of an option: purpose, range and default, without capital or full stop."""
    text = option.help.rstrip(".")
    first = text.partition(" ")[0]
    text = text[:1].lower() + text[1:] if first[1:].islower() or len(first) == 1 else text  # SD1.5 and LoRA stay
    if option.kind is bool and option.default is True:
        return f"leave this out: {text}".replace("%", "%%")
    ends = [end for end in (option.low, option.high) if end is not None]
    span = allowed_numbers(option) if ends and max(map(abs, ends)) <= MAX_SHOWN_LIMIT else ""
    span = span.removeprefix("from ") if len(ends) == 2 else span
    default = default_text(option)
    more = ", ".join(part for part in (span, default and f"default: {default}") if part)
    return f"{text} ({more})".strip().replace("%", "%%") if more else text.replace("%", "%%")


@dataclass(frozen=True)
class Command:
    """A command: name, help texts, arguments and function."""

    name: str
    purpose: str
    examples: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def add_file(  # noqa: PLR0913 - one parameter a property of the flag
    parser: argparse._ActionsContainer,
    flag: str,
    metavar: str,
    meaning: str,
    required: bool = True,
    *,
    files: FilesOf | None = None,
    folder: bool = False,
) -> None:
    """Add a flag that takes a path. What its metavar calls OUT is written, and may be no other flag's input.

    Args:
        parser: of the command, or a group of it.
        flag: with its dashes.
        metavar: what stands behind it in the help.
        meaning: the help.
        required: whether it must be given.
        files: of a path to write: the files that it stands for; None: itself.
        folder: whether it is a folder to write, in which no input folder may lie.
    """
    written = folder or files is not None or metavar.startswith("OUT")
    output = {"action": OutputAction, "files": files, "folder": folder} if written else {}
    parser.add_argument(flag, metavar=metavar, type=Path, required=required, help=meaning, **output)


def add_portrait(parser: argparse.ArgumentParser) -> None:
    """Add the portrait's path."""
    add_file(parser, "--portrait", "PICTURE", "picture of a face, at least 128 pixels a side")


def add_face(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a face and of the face-mesh back end."""
    group = parser.add_argument_group("face")
    add_options(group, FaceOptions)
    parser.set_defaults(face_order=FaceOptions.face_order)
    add_mesh(group)


def chosen_face(args: argparse.Namespace) -> int | FaceChoice:
    """Which face the flags of `add_face` mean.

    Raises:
        InputError: neither a box nor a mask that can be read.
    """
    return options_from(args, FaceOptions).which


def named_face(args: argparse.Namespace) -> int | FaceChoice | None:
    """Which face the flags of `add_face` name; None where none of them is given.

    Raises:
        InputError: neither a box nor a mask that can be read.
    """
    return named_in(given_options(args, FaceOptions))


def add_mesh(group: argparse._ArgumentGroup) -> None:
    """Add the face-mesh back end and its model."""
    group.add_argument(
        "--mesh-backend",
        choices=("auto", "solutions", "tasks", "torch"),
        default="auto",
        help="what finds landmarks: solutions and tasks are MediaPipe's, torch is built in; auto the first that works",
    )
    group.add_argument(
        "--mesh-model", metavar="FILE", type=Path, help="a face_landmarker.task file for the tasks back end"
    )


def add_video(parser: argparse.ArgumentParser) -> None:
    """Add the options of the video encoder."""
    add_options(parser.add_argument_group("video"), WriteOptions, filled=True)


def check_output(out: Path, inputs: Iterable[Path], suffixes: tuple[str, ...]) -> Path:
    """Check before long work starts that a result can be written to `out`, and return it.

    Args:
        out: file to write.
        inputs: files that are read and must not be overwritten, besides those of flags, which `check_arguments` knows.
        suffixes: endings that are known, in lower case; empty allows any.

    Raises:
        InputError: unknown ending, or the same file as an input.
        OutputError: a folder, or in a folder that does not exist or cannot be written to.
    """
    from ..media.files import check_writable

    if out.is_dir():
        name = f"out{suffixes[0] if suffixes else ''}"
        raise OutputError(f"cannot write {out}: it is a folder; give a file name, such as {out / name}.")
    if suffixes and out.suffix.lower() not in suffixes:
        raise InputError(f"the output {out} must end in {' or '.join(suffixes)}.")
    check_writable(out)
    for path in inputs:
        if is_same_file(path, out):
            raise InputError(f"the output {out} is also the input {path}; choose another name, for it would be lost.")
    return out


def check_new_folder(folder: Path) -> Path:
    """Check before long work starts that files can be written into a folder, made or not, and return it.

    Raises:
        OutputError: a file stands there, or the folder above it cannot be written to.
    """
    from ..media.files import check_writable, explain_write_errors

    with explain_write_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write into {folder}: it is a file; give the name of a folder.")
        if folder.is_dir():
            check_writable(folder / "name")
        else:
            above = next(path for path in folder.absolute().parents if path.exists())
            check_writable(above / folder.absolute().relative_to(above).parts[0])
    return folder


def check_crf(crf: int) -> int:
    """Check an H.264 quality number, 0..51, and return it."""
    check_option(option_of(WriteOptions, "crf"), crf, "--crf")
    return crf


@contextmanager
def open_chosen_mesh(args: argparse.Namespace) -> Iterator[MeshBackend]:
    """Open the face-mesh back end of `--mesh-backend` and `--mesh-model`."""
    from ..face.mesh.landmarks import open_mesh

    with open_mesh(args.mesh_backend, model_path=args.mesh_model) as mesh:
        yield mesh


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print a table with a title."""
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
