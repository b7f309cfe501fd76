"""Parser of the command line, whose errors are short: what is wrong, the nearest that would be right, an example."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

EXIT_USAGE = 2


class CommandParser(argparse.ArgumentParser):
    """Parser of one command, or of all of them.

    argparse would print every flag before an error, ninety of them for `talk`, and name no similar one.
    """

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """See argparse; of a command, words that it does not know are an error here, where its flags are known."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown and not self._is_of_commands():
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}{did_you_mean(unknown[0].partition('=')[0], flags)}"
            )
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            text = f"{value!r} is none of {', '.join(choices)}{did_you_mean(str(value), choices)}"
            raise argparse.ArgumentError(action, text)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, the command's first example and where its flags are listed; exit with 2."""
        lines = [f"{self.prog}: error: {message}"]
        if example := self._example():
            lines.append(f"example: {example}")
        lines.append(f"All {'commands' if self._is_of_commands() else 'options'}: {self.prog} --help")
        self.exit(EXIT_USAGE, "\n".join(lines) + "\n")

    def _is_of_commands(self) -> bool:
        return self._subparsers is not None

    def _example(self) -> str:
        """The first example of the help, on one line."""
        lines = (self.epilog or "").replace("\\\n", " ").splitlines()
        return next((" ".join(line.split()) for line in lines if line.strip().startswith("portraittalk ")), "")


def short_usage(parser: argparse.ArgumentParser) -> str:
    """The words that a command needs at least; argparse's own usage lists every flag, 70 lines of `talk`."""
    words, in_groups = [], set()
    for group in parser._mutually_exclusive_groups:  # noqa: SLF001 - argparse tells them nowhere else
        if group.required:
            words.append(f"({' | '.join(map(_with_value, group._group_actions))})")  # noqa: SLF001
            in_groups.update(group._group_actions)  # noqa: SLF001
    needed = [action for action in parser._actions if action.required and action not in in_groups]  # noqa: SLF001
    return " ".join([parser.prog, *words, *map(_with_value, needed), "[options]"]).replace("%", "%%")


def _with_value(action: argparse.Action) -> str:
    """A flag with what stands behind it, or a word without a flag."""
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest)
    return f"{action.option_strings[0]} {value}" if action.option_strings else str(value)


def print_help_on_stderr(parser: argparse.ArgumentParser) -> int:
    """Print a parser's help where nothing was asked for; returns the exit code."""
    parser.print_help(sys.stderr)
    return EXIT_USAGE


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question about the nearest of the known words, behind a semicolon; nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
