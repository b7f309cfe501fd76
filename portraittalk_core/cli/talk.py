"""The command `talk`: talking-head video of a portrait and a speech."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from .arguments import VIDEO_SUFFIXES, Command, add_face, add_file, add_portrait, add_video, check_crf, check_output
from .motion import add_motion, motion_engine, motion_options, with_gain_curve
from .portrait import portrait_from
from .progress import progress_bar
from .renderers import add_renderer, flags_named, open_renderer, renderer_options
from .resume import resumed
from .sound import add_sound_track, chosen_sound
from .style import add_style, chosen_style

if TYPE_CHECKING:
    from ..renderers.write import RenderResult

EXAMPLES = """examples:
  portraittalk talk --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk talk --portrait group.jpg --face-index 1 --face-order left_to_right --speech a.mp3 --out a.mp4
  portraittalk talk --portrait me.png --speech talk.mov --fps 30000/1001 --head-motion 0 --out still.mp4
  portraittalk talk --portrait me.jpg --speech a.wav --renderer identitynet --checkpoint sd15.safetensors --out a.mp4"""


def talk(args: argparse.Namespace) -> None:
    """Render a portrait that speaks."""
    started = time.perf_counter()
    check_output(args.out, (args.portrait, args.speech), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options, (spec, render_options) = motion_options(args), renderer_options(args)
    from ..media.audio import load_speech
    from ..pipelines.talk import talk as make_video
    from ..renderers.contract import Callbacks

    engine = motion_engine(args)
    speech = load_speech(chosen_sound(args))
    options = with_gain_curve(options, args, speech)
    portrait, style = portrait_from(args), chosen_style(args)
    renderer = open_renderer(spec, render_options)
    with flags_named(), resumed(args, render_options) as sections, progress_bar(spec.name) as on_progress:
        result = make_video(
            portrait,
            speech,
            args.out,
            options,
            engine=engine,
            renderer=renderer,
            style=style,
            sound=chosen_sound(args),
            crf=args.crf,
            callbacks=Callbacks(on_progress, sections=sections),
        )
    print_result(result, time.perf_counter() - started)


def print_result(result: RenderResult, took_s: float) -> None:
    """Print file, length and frame rate of a written video."""
    print(
        f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, made in "
        f"{result.elapsed_s:.1f} s ({result.speed:.1f}× real time; {took_s:.1f} s with loading)"
    )


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    add_file(parser, "--speech", "IN", "sound or video file with the speech; it becomes the video's sound")
    add_sound_track(parser)
    add_file(parser, "--out", "OUT.mp4", "video to write")
    add_motion(parser)
    add_style(parser)
    add_face(parser)
    add_video(parser)
    add_renderer(parser)


COMMAND = Command("talk", "make a talking video of a portrait and a speech clip", EXAMPLES, _add, talk)
