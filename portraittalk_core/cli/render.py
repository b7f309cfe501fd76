"""The command `render`: a portrait that follows a landmark track becomes a video."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import VIDEO_SUFFIXES, Command, add_face, add_file, add_portrait, add_video, check_crf, check_output
from .portrait import find_asked_portrait
from .progress import progress_bar
from .renderers import add_renderer, flags_named, open_chosen, renderer_options
from .resume import resumed
from .style import add_style, chosen_style
from .talk import print_result

if TYPE_CHECKING:
    from ..types import LandmarkTrack

EXAMPLES = """examples:
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4
  portraittalk render --portrait me.jpg --track edited.safetensors --renderer identitynet \\
    --checkpoint sd15.safetensors --out painted.mp4"""


def render(args: argparse.Namespace) -> None:
    """Portrait and track to a video."""
    started = time.perf_counter()
    inputs = [path for path in (args.portrait, args.track, args.speech) if path]
    check_output(args.out, inputs, VIDEO_SUFFIXES)
    check_crf(args.crf)
    spec, chosen = renderer_options(args)
    from ..media.audio import load_speech
    from ..pipelines.render import render_track
    from ..renderers.contract import Callbacks
    from ..renderers.warp.renderer import check_same_shape

    driving = _at_fps(load_asked_track(args.track), args.fps)
    portrait, style = find_asked_portrait(args), chosen_style(args)
    try:
        check_same_shape(driving, portrait.landmarks.width, portrait.landmarks.height)
    except InputError as error:
        raise InputError(f"{args.track.name} does not fit {args.portrait.name}: {error}") from error
    renderer = open_chosen(spec, chosen)
    with flags_named(), resumed(args, chosen) as sections, progress_bar(spec.name) as on_progress:
        result = render_track(
            portrait,
            driving,
            args.out,
            renderer=renderer,
            speech=load_speech(args.speech) if args.speech else None,
            style=style,
            sound=args.speech,
            transfer=args.transfer,
            crf=args.crf,
            callbacks=Callbacks(on_progress, sections=sections),
        )
    print_result(result, time.perf_counter() - started)


def load_asked_track(path: Path) -> LandmarkTrack:
    """The track of a file."""
    from ..face.track_file import load_track

    return load_track(path)


def _at_fps(track: LandmarkTrack, fps: str | None) -> LandmarkTrack:
    """The track at the rate that is asked for, with a note where that is another."""
    from ..motion.resample import at_fps

    made = track if fps is None else at_fps(track, fps)
    if made.fps != track.fps:
        print(f"The track's {len(track)} frames at {float(track.fps):g} fps became {len(made)} at {float(made.fps):g}.")
    return made


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    add_file(parser, "--track", "IN.safetensors", "track made by `landmarks` or `track`")
    add_file(parser, "--speech", "IN", "sound or video file that becomes the video's sound; none if left out", False)
    add_file(parser, "--out", "OUT.mp4", "video to write")
    parser.add_argument("--fps", metavar="RATE", help="frames per second of the video; if not given, the track's own")
    parser.add_argument(
        "--transfer",
        choices=("auto", "absolute", "relative"),
        default="auto",
        help="use the track's points as they are, carry the motion of another face over, or see which fits",
    )
    add_style(parser)
    add_face(parser)
    add_video(parser)
    add_renderer(parser)


COMMAND = Command("render", "make a video of a portrait that follows a landmark track", EXAMPLES, _add, render)
