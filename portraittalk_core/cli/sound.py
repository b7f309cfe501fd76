"""Choice of a sound track on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.options import SoundOptions
from .arguments import add_options, options_from

if TYPE_CHECKING:
    from ..media.sound import SoundChoice


def add_sound_track(parser: argparse.ArgumentParser) -> None:
    """Add the choice of one of several sound tracks of --speech."""
    add_options(parser, SoundOptions, filled=True)


def chosen_sound(args: argparse.Namespace) -> Path | SoundChoice | None:
    """The sound file of --speech, or its track of --sound-track; None without --speech."""
    from ..media.sound import SoundChoice

    track = options_from(args, SoundOptions).sound_track
    return args.speech if args.speech is None or track is None else SoundChoice(args.speech, track)
