"""The command `talk`: talking-head video of a portrait and a speech."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import InputError
from ..motion.dub_options import DubOptions
from ..motion.point_files import PointFiles
from ..options import columns_of
from ..renderers.contract import PORTRAIT
from .also import add_also, check_sounds, read_also, speaker_names, speaking_faces, speeches, video_sound
from .arguments import (
    Command,
    add_face,
    add_file,
    add_options,
    add_video,
    check_crf,
    open_chosen_mesh,
    options_from,
)
from .motion import add_motion, motion_engine, motion_options
from .portrait import portrait_from, portraits_from
from .progress import progress_bar
from .renderers import add_renderer, check_video_output, flags_named, open_renderer, renderer_options
from .resume import resumed
from .sound import add_sound_track, chosen_sound
from .source import add_source, make_video, maker
from .style import add_style, chosen_style

if TYPE_CHECKING:
    from ..face.choice import FaceChoice
    from ..motion.options import MotionOptions
    from ..renderers.contract import Film
    from ..renderers.write import RenderResult

    Made = Callable[..., RenderResult]

EXAMPLES = """examples:
  portraittalk talk --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk talk --portrait group.jpg --face-index 1 --face-order left_to_right --speech a.mp3 --out a.mp4
  portraittalk talk --portrait two.jpg --face-order left_to_right --speech a.wav --also 1 b.wav --out both.mp4
  portraittalk talk --portrait me.png --speech talk.mov --fps 30000/1001 --head-motion 0 --out still.mp4
  portraittalk talk --portrait me.jpg --speech a.wav --renderer identitynet --checkpoint sd15.safetensors --out a.mp4
  portraittalk talk --source me.jpg --driving nod.mp4 --speech a.wav --film-end ping-pong --out a.mp4
  portraittalk talk --source me.jpg --speech a.wav --renderer liveportrait --keypoints-folder LivePortrait \\
    --alpha 0.7 --out a.mp4
  portraittalk talk --portrait me.jpg --speech a.wav --background transparent --out me.webm"""


def talk(args: argparse.Namespace) -> None:
    """Render a portrait that speaks, or dub a video."""
    make_video(args, PORTRAIT)


@maker(PORTRAIT)
def talk_portrait(args: argparse.Namespace) -> None:
    """Render the portrait of --portrait."""
    started = time.perf_counter()
    check_crf(args.crf)
    options, (spec, render_options) = motion_options(args), renderer_options(args)
    check_video_output(args.out, (args.portrait, args.speech, *read_also(args)), render_options)
    faces = speaking_faces(args)
    from ..renderers.contract import Callbacks

    engine, renderer = motion_engine(args), open_renderer(spec, render_options)
    make = _talk_alone if len(faces) == 1 else _talk_together
    check_sounds(args)
    with flags_named():
        render = make(args, faces, options)
    with flags_named(), resumed(args, render_options) as sections, progress_bar(spec.name) as on_progress:
        more = {"engine": engine, "renderer": renderer, "style": chosen_style(args), "crf": args.crf}
        result = render(**more, callbacks=Callbacks(on_progress, sections=sections))
    print_result(result, time.perf_counter() - started)


def _talk_alone(args: argparse.Namespace, _faces: list[int | FaceChoice], options: MotionOptions) -> Made:
    """What makes the video of one speaking face."""
    from ..media.audio import load_speech
    from ..pipelines.talk import talk as make_talk

    sound = chosen_sound(args)
    speech = load_speech(sound)
    options = options_from(args, PointFiles).read_into(options, speech)
    portrait = portrait_from(args)
    more = {"sound": sound, "driving": driving_film(args), "film_end": options_from(args, DubOptions).film_end}
    return partial(make_talk, portrait, speech, args.out, options, **more)


def _talk_together(args: argparse.Namespace, faces: list[int | FaceChoice], options: MotionOptions) -> Made:
    """What makes the video of several speaking faces of one picture."""
    alone = [flag for flag in ("driving", *columns_of(PointFiles)) if getattr(args, flag, None) is not None]
    if alone:
        flags = ", ".join("--" + flag.replace("_", "-") for flag in alone)
        raise InputError(f"{flags} moves one face, and --also names several; leave one of them out.")
    from ..pipelines.speakers import check_speakers
    from ..pipelines.together import PictureSpeaker, talk_speakers

    sounds = speeches(args)
    speakers = list(map(PictureSpeaker, portraits_from(args, faces), sounds, speaker_names(args)))
    check_speakers(speakers)
    return partial(talk_speakers, speakers, args.out, options, sound=video_sound(args))


def driving_film(args: argparse.Namespace) -> Film | None:
    """The tracked video of --driving; None without one."""
    path = getattr(args, "driving", None)
    if path is None:
        return None
    from ..pipelines.dub import read_film

    with open_chosen_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        return read_film(path, mesh=mesh, scenes="all", on_progress=on_progress)


def print_result(result: RenderResult, took_s: float) -> None:
    """Print file, length and frame rate of a written video."""
    print(
        f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, made in "
        f"{result.elapsed_s:.1f} s ({result.speed:.1f}× real time; {took_s:.1f} s with loading)"
    )


def _add(parser: argparse.ArgumentParser) -> None:
    add_source(parser, PORTRAIT, "picture of a face, at least 128 pixels a side")
    add_file(parser, "--speech", "IN", "sound or video file with the speech; it becomes the video's sound")
    add_sound_track(parser)
    add_also(parser)
    add_file(parser, "--driving", "IN", "video whose head, eyes and brows the portrait takes over", False)
    add_file(parser, "--out", "OUT.mp4", "video to write")
    add_options(parser.add_argument_group("a video as --source or --driving"), DubOptions, filled=True)
    add_motion(parser)
    add_style(parser)
    add_face(parser)
    add_video(parser)
    add_renderer(parser)


COMMAND = Command("talk", "make a talking video of a portrait and a speech clip", EXAMPLES, _add, talk)
