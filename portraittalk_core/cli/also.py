"""Several faces of one source, each with a sound of its own: the flag --also of `talk` and `dub`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import chosen_face
from .sound import chosen_sound

if TYPE_CHECKING:
    from torch import Tensor

    from ..face.choice import FaceChoice
    from ..media.sound import SoundChoice
    from ..types import Speech

HELP = (
    "another face, and the sound of what it says; may be given several times. FACE is a number as of --face-index, or "
    "a box or mask as of --face; IN may be the word silence: the face listens. All begin together, and the video's "
    "sound is the sum of all"
)


def add_also(parser: argparse.ArgumentParser) -> None:
    """Add --also."""
    parser.add_argument("--also", action="append", nargs=2, metavar=("FACE", "IN"), help=HELP)


def read_also(args: argparse.Namespace) -> list[Path]:
    """Turn the sounds of --also into paths, None for who listens, and return the paths."""
    from ..media.several_sounds import SILENCE

    pairs = getattr(args, "also", None) or ()
    args.also = [[face, None if speech == SILENCE else Path(speech)] for face, speech in pairs]
    return [speech for _, speech in args.also if speech is not None]


def speaking_faces(args: argparse.Namespace) -> list[int | FaceChoice]:
    """Which faces speak: that of the face's own flags, and those of --also.

    Raises:
        InputError: neither a number, a box, nor a mask that can be read.
    """
    from ..face.choice import face_choice

    return [chosen_face(args), *(face_choice(face) for face, _ in args.also)]


def speaker_names(args: argparse.Namespace) -> list[str]:
    """What to call them in messages."""
    return ["the face of --speech", *(f"the face {face} of --also" for face, _ in args.also)]


def spoken_sounds(args: argparse.Namespace) -> list[Path | SoundChoice | None]:
    """What they say, in turn; None where somebody listens."""
    return [chosen_sound(args), *(speech for _, speech in args.also)]


def speeches(args: argparse.Namespace, at_most_s: float | None = None) -> list[Speech]:
    """What they say, read.

    Args:
        args: parsed.
        at_most_s: how much of each is read; None reads all.
    """
    from ..media.audio import load_speech
    from ..media.several_sounds import nothing_said

    sounds = spoken_sounds(args)
    return [nothing_said() if sound is None else load_speech(sound, at_most_s) for sound in sounds]


def check_sounds(args: argparse.Namespace) -> None:
    """Open every sound, so that one that cannot be heard is told before long work.

    Raises:
        MediaError: with the file.
    """
    from ..media.sound import SoundFile

    for sound in filter(None, spoken_sounds(args)):
        SoundFile(sound).close()


def video_sound(args: argparse.Namespace, at_most_s: float | None = None) -> Path | SoundChoice | tuple[Tensor, int]:
    """The video's sound: that of --speech, or the sum of all.

    Args:
        args: parsed.
        at_most_s: how much of each is read where they are summed; None reads all.
    """
    from ..media.several_sounds import summed_sounds

    sounds = list(filter(None, spoken_sounds(args)))
    return sounds[0] if len(sounds) == 1 else summed_sounds(sounds, at_most_s)
