"""Entry point of the command line: builds the parser and runs one command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import PortraitTalkError
from ..media.made_mark import ai_mark
from . import batch, doctor, dub, landmarks, live, plot, prepare, render, score, style, talk, track, train
from .arguments import Command
from .parser import CommandParser, print_help_on_stderr, short_usage
from .process import EXIT_STOPPED, EXIT_USER, end_at_once, run_guarded
from .validation import check_arguments, with_flag_of_missing_file

DEBUG_VARIABLE = "PORTRAITTALK_DEBUG"
COMMANDS = tuple(
    module.COMMAND
    for module in (talk, dub, live, landmarks, style, track, render, plot, score, batch, prepare, train, doctor)
)

DESCRIPTION = "One portrait and a speech clip become a talking-face video."
EPILOG = """examples:
  portraittalk talk --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk landmarks --portrait me.jpg --speech hello.wav --out hello.safetensors
  portraittalk plot --track hello.safetensors --speech hello.wav --out hello.png
  portraittalk doctor

exit codes: 0 done, 2 something you gave cannot be used, 3 some of many failed (score, batch), 130 stopped,
1 a fault of this program"""


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Help formatter that keeps the examples' line breaks and shows defaults where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is None or isinstance(action.default, bool) or "default:" in (action.help or "")
        return action.help if has_default else super()._get_help_string(action)


def console() -> int:
    """Run the command of this process, and end it at once if it was stopped; returns the exit code of `main`."""
    code = main()
    if code == EXIT_STOPPED:
        end_at_once(code)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``portraittalk``; None takes those of this process.

    Returns:
        The exit code: 0 done, 2 the user's mistake, 130 stopped, 1 a fault of this program.
    """
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        return print_help_on_stderr(parser)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong, or shown the help
        return stop.code if isinstance(stop.code, int) else EXIT_USER
    return run_guarded(lambda: args.run(args), debug=args.debug or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"))


def _validated(command: Command, parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int | None]:
    """The command's function behind the checks of its arguments."""

    def run(args: argparse.Namespace) -> int | None:
        check_arguments(parser, args)
        try:
            with ai_mark(getattr(args, "ai_mark", True)):
                return command.run(args)
        except PortraitTalkError as error:
            raise with_flag_of_missing_file(parser, args, error) from error

    return run


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each sets `run` to its function."""
    parser = CommandParser("portraittalk", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"portraittalk {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        texts = {"help": command.purpose, "description": command.purpose, "epilog": command.examples}
        subparser = commands.add_parser(command.name, formatter_class=_Help, **texts)
        subparser.set_defaults(run=_validated(command, subparser))
        subparser.add_argument("--debug", action="store_true", help="show tracebacks and all that libraries write")
        command.add(subparser)
        subparser.usage = short_usage(subparser)
    return parser
