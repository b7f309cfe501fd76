"""Validation of a command's parsed arguments before it runs: values by their declarations, outputs that are no input.

The rules go over what the parser declares, so that no command lists its options a second time.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..checks import abbreviated, check_finite_number, check_text, is_same_file
from ..errors import InputError, MissingFileError
from ..options import Option, check_option

FilesOf = Callable[[Path], Sequence[Path]]

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.I)


class OutputAction(argparse.Action):
    """Stores a path that the command writes; every other path among its arguments is an input.

    Args:
        files: the files that are written for a value; None: the value itself.
        folder: whether the value is a folder that gets many files of its own, in which no input may lie.
    """

    def __init__(self, *args: object, files: FilesOf | None = None, folder: bool = False, **options: object) -> None:
        super().__init__(*args, **options)
        self.files, self.folder = files or (lambda path: (path,)), folder

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, _flag: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)


def declare_option(action: argparse.Action, option: Option) -> None:
    """Note of which option a flag is, so that `check_arguments` checks its values even where nothing else does."""
    action.declared = (*getattr(action, "declared", ()), option)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check every given value against the declaration of its flag, and that no output is an input.

    Args:
        parser: of the command.
        args: that it has parsed.

    Raises:
        InputError: with the flag and the value.
    """
    for action in parser._actions:  # noqa: SLF001 - argparse tells its arguments nowhere else
        for value in _values(action, args):
            _check_value(action, value)
    outputs = [(action, path) for action in parser._actions for path in _outputs(action, args)]  # noqa: SLF001
    inputs = [(action, path) for action in parser._actions for path in _inputs(action, args)]  # noqa: SLF001
    for number, (action, out) in enumerate(outputs):
        for other, path in inputs:
            if is_same_file(out, path):
                raise InputError(
                    f"the output {out} is also the input {path} ({_name(other)}); choose another name, for it would "
                    "be lost."
                )
        for other, path in outputs[:number]:
            if os.path.realpath(out) == os.path.realpath(path):
                raise InputError(f"{_name(other)} and {_name(action)} would both write {out}; give two names.")
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, OutputAction) and action.folder:
            _check_folder(action, getattr(args, action.dest), inputs)


def with_flag_of_missing_file(parser: argparse.ArgumentParser, args: argparse.Namespace, error: Exception) -> Exception:
    """The error of a command; where a file is missing that a flag names, one with the flag and what may be meant."""
    if not isinstance(error, MissingFileError):
        return error
    for action in parser._actions:  # noqa: SLF001
        for path in _inputs(action, args):
            if path == error.path:
                return InputError(f"{_name(action)} {path} {_why_missing(path)}")
    return error


def _why_missing(path: Path) -> str:
    text = str(path)
    if _ADDRESS.match(text):  # of which a path has dropped a slash
        return "is an address, not a file; download it first."
    if text.startswith("~"):
        return "does not exist; your shell has not put your home folder for ~: write the path in full."
    if not path.parent.is_dir():
        return f"does not exist, nor does the folder {path.parent}; check the path."
    near = difflib.get_close_matches(path.name, _names_in(path.parent), n=1, cutoff=0.8)
    return f"does not exist; did you mean {path.parent / near[0]}?" if near else "does not exist; check the path."


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _check_folder(action: OutputAction, out: Path, inputs: list[tuple[argparse.Action, Path]]) -> None:
    for other, path in inputs:
        if path.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
            relation = "is also" if is_same_file(path, out) else "holds"
            raise InputError(
                f"the folder {out} ({_name(action)}) {relation} the input {path} ({_name(other)}); choose a folder of "
                "its own, so that what is made is never taken for what is read."
            )


def _check_value(action: argparse.Action, value: object) -> None:
    declared: tuple[Option, ...] = getattr(action, "declared", ())
    if isinstance(value, (str, Path)):
        check_text(str(value), _name(action), is_path=isinstance(value, Path))
    if isinstance(value, Path):
        _check_path(value, _name(action))
    elif isinstance(value, float) and not declared:
        check_finite_number(value, _name(action))
    errors = []
    for option in declared:
        try:
            check_option(option, value, option.flag)
        except InputError as error:
            errors.append(error)
    if declared and len(errors) == len(declared):  # a flag of two renderers may have two ranges
        raise errors[0]


def _check_path(path: Path, name: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            problem = "is too long a name" if error.errno == errno.ENAMETOOLONG else "is a link that leads to itself"
            raise InputError(f"{name} {abbreviated(str(path))} {problem}; choose another.") from error


def _values(action: argparse.Action, args: argparse.Namespace) -> list[object]:
    value = getattr(args, action.dest, None)
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _outputs(action: argparse.Action, args: argparse.Namespace) -> Iterator[Path]:
    if isinstance(action, OutputAction):
        for value in _values(action, args):
            yield from action.files(value)


def _inputs(action: argparse.Action, args: argparse.Namespace) -> Iterator[Path]:
    """Paths that a flag reads: every Path, and text that the flag declares as FILE, with or without a strength."""
    if isinstance(action, OutputAction):
        return
    for value in _values(action, args):
        if isinstance(value, Path):
            yield value
        elif isinstance(value, str) and isinstance(action.metavar, str) and action.metavar.startswith("FILE"):
            name, colon, _ = value.rpartition(":")
            yield from (Path(value), *((Path(name),) if colon and name else ()))


def _name(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else action.dest
