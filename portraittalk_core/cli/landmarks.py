"""The command `landmarks`: a portrait and speech become a landmark track."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import TRACK_SUFFIXES, Command, add_face, add_file, add_portrait, check_output
from .motion import add_motion, motion_engine, motion_options, with_gain_curve
from .portrait import find_asked_portrait
from .progress import progress_bar
from .style import add_style

if TYPE_CHECKING:
    from ..types import LandmarkTrack

EXAMPLES = """example (edit or plot the motion before making pixels of it):
  portraittalk landmarks --portrait me.jpg --speech hello.wav --out hello.safetensors
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4"""


def landmarks(args: argparse.Namespace) -> None:
    """Portrait and speech to a track."""
    started = time.perf_counter()
    check_output(args.out, (args.portrait, args.speech), TRACK_SUFFIXES)
    options = motion_options(args)
    from ..engines.contract import whole_track
    from ..media.audio import load_speech
    from ..media.records import save_record

    engine = motion_engine(args)
    speech = load_speech(args.speech)
    options = with_gain_curve(options, args, speech)
    portrait = find_asked_portrait(args)
    with progress_bar("moving the face") as on_progress:
        made = whole_track(engine, speech, portrait.landmarks, options, on_progress)
    save_record(made, args.out)
    print_track(args.out, made, time.perf_counter() - started)


def print_track(out: Path, made: LandmarkTrack, took_s: float) -> None:
    """One line on a track that was written."""
    print(f"{out}: {made.seconds:.2f} s, {len(made)} frames at {float(made.fps):g} fps, made in {took_s:.1f} s")


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    add_file(parser, "--speech", "IN", "sound or video file with the speech")
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
