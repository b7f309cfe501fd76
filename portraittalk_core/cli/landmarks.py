"""The command `landmarks`: landmark track of a portrait that speaks."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..motion.point_files import PointFiles
from .arguments import TRACK_SUFFIXES, Command, add_face, add_file, add_portrait, check_output, options_from
from .motion import add_motion, motion_engine, motion_options
from .portrait import portrait_from
from .progress import progress_bar
from .sound import add_sound_track, chosen_sound
from .style import add_style

if TYPE_CHECKING:
    from ..types import LandmarkTrack

EXAMPLES = """example (edit or plot the motion before making pixels of it):
  portraittalk landmarks --portrait me.jpg --speech hello.wav --out hello.safetensors
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4"""


def landmarks(args: argparse.Namespace) -> None:
    """Predict and write the landmark track of a portrait and a speech."""
    started = time.perf_counter()
    check_output(args.out, (), TRACK_SUFFIXES)
    options = motion_options(args)
    from ..engines.contract import whole_track
    from ..media.audio import load_speech
    from ..media.records import save_record

    engine = motion_engine(args)
    speech = load_speech(chosen_sound(args))
    options = options_from(args, PointFiles).read_into(options, speech)
    portrait = portrait_from(args)
    with progress_bar("moving the face") as on_progress:
        track = whole_track(engine, speech, portrait.landmarks, options, on_progress)
    save_record(track, args.out)
    print_track(args.out, track, time.perf_counter() - started)


def print_track(out: Path, track: LandmarkTrack, took_s: float) -> None:
    """Print file, length and frame rate of a written track."""
    print(f"{out}: {track.seconds:.2f} s, {len(track)} frames at {float(track.fps):g} fps, made in {took_s:.1f} s")


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    add_file(parser, "--speech", "IN", "sound or video file with the speech")
    add_sound_track(parser)
    add_file(parser, "--out", "OUT.safetensors", "track to write")
    add_motion(parser)
    add_style(parser)
    add_face(parser)


COMMAND = Command(
    "landmarks",
    "make only the motion: the landmark track that a portrait follows to a speech clip",
    EXAMPLES,
    _add,
    landmarks,
)
