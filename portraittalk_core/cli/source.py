"""The source of `talk` and `dub`: a picture or a video, under --source or the command's own name for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..motion.dub_options import OF_THE_FILM
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..options import option_of, options_of
from ..renderers.contract import FILM, PORTRAIT
from .arguments import add_file

Maker = Callable[[argparse.Namespace], None]
OWN_NAMES = {PORTRAIT: "portrait", FILM: "video"}  # where each kind of source stands among the arguments

_MAKERS: dict[str, Maker] = {}


def add_source(parser: argparse.ArgumentParser, kind: str, meaning: str) -> None:
    """Add --source, and the name that the command has always had for its own kind.

    Args:
        parser: of the command.
        kind: "portrait" or "film".
        meaning: the help of the old name.
    """
    metavar = "PICTURE" if kind == PORTRAIT else "IN"
    group = parser.add_mutually_exclusive_group(required=True)
    add_file(group, f"--{OWN_NAMES[kind]}", metavar, meaning, False)
    add_file(group, "--source", "PICTURE|VIDEO", "what is to speak: a picture is animated, a video is dubbed", False)


def maker(kind: str) -> Callable[[Maker], Maker]:
    """Decorator of the function that makes a video of one kind of source; it finds it under that kind's own name."""

    def note(function: Maker) -> Maker:
        _MAKERS[kind] = function
        return function

    return note


def make_video(args: argparse.Namespace, kind: str) -> None:
    """Make the video of a command's source, whichever kind it is.

    Args:
        args: parsed.
        kind: that the command's own name stands for.

    Raises:
        InputError: an option that the other kind of source has no use for.
    """
    if args.source is not None:
        from ..media.kind import is_video

        kind = FILM if is_video(args.source) else PORTRAIT
        setattr(args, OWN_NAMES[kind], args.source)
    if kind == FILM:
        _refuse_for_films(args)
    elif getattr(args, "fit", None) is not None:
        raise InputError(f"--fit cannot be used with the picture {Path(args.source).name}; leave it out.")
    _MAKERS[kind](args)


def _refuse_for_films(args: argparse.Namespace) -> None:
    flags = [option_of(MotionOptions, name).flag for name in OF_THE_FILM if getattr(args, name, None) is not None]
    flags += [file.flag for file in options_of(PointFiles) if getattr(args, file.column, None) is not None]
    flags += ["--driving"] if getattr(args, "driving", None) is not None else []
    if flags:
        name = Path(args.video).name
        raise InputError(
            f"{', '.join(flags)} cannot be used with the video {name}, which keeps its own rate, head and eyes; leave "
            "it out, or give a picture."
        )
