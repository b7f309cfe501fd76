"""Choice of a sound track on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..media.sound import SoundChoice


def add_sound_track(parser: argparse.ArgumentParser) -> None:
    """Add the choice of one of several sound tracks of --speech."""
    parser.add_argument(
        "--sound-track",
        metavar="N",
        type=int,
        help="which sound track of --speech, from 1 (default: the one that the file names as its default)",
    )


def chosen_sound(args: argparse.Namespace) -> Path | SoundChoice | None:
    """The sound file of --speech, or its track of --sound-track; None without --speech."""
    from ..media.sound import SoundChoice

    if args.speech is None or args.sound_track is None:
        return args.speech
    return SoundChoice(args.speech, args.sound_track)
