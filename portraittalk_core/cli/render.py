"""The command `render`: renders a portrait that follows a landmark or keypoint track."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import Command, add_face, add_file, add_portrait, add_video, check_crf
from .portrait import portrait_from
from .progress import progress_bar
from .renderers import add_renderer, check_video_output, flags_named, open_renderer, renderer_options
from .resume import resumed
from .sound import add_sound_track, chosen_sound
from .style import add_style, chosen_style
from .talk import print_result

if TYPE_CHECKING:
    from ..types import KeypointTrack, LandmarkTrack

EXAMPLES = """examples:
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4
  portraittalk render --portrait me.jpg --track edited.safetensors --renderer identitynet \\
    --checkpoint sd15.safetensors --out painted.mp4
  portraittalk render --portrait me.jpg --track keypoints.safetensors --renderer liveportrait \\
    --keypoints-folder LivePortrait --relative --out driven.mp4"""


def render(args: argparse.Namespace) -> None:
    """Render a portrait and a track to a video."""
    started = time.perf_counter()
    inputs = [path for path in (args.portrait, args.track, args.speech) if path]
    check_crf(args.crf)
    spec, render_options = renderer_options(args)
    check_video_output(args.out, inputs, render_options)
    from ..face.track_file import load_motion
    from ..media.audio import load_speech
    from ..pipelines.render import fit_track, render_track
    from ..renderers.contract import Callbacks
    from ..types import LandmarkTrack

    driving = _at_fps(load_motion(args.track), args.fps)
    portrait, style = portrait_from(args), chosen_style(args)
    if args.transfer == "absolute" and isinstance(driving, LandmarkTrack):
        try:
            fit_track(portrait, driving, args.transfer)
        except InputError as error:
            raise InputError(f"{args.track.name} does not fit {args.portrait.name}: {error}") from error
    renderer = open_renderer(spec, render_options)
    with flags_named(), resumed(args, render_options) as sections, progress_bar(spec.name) as on_progress:
        result = render_track(
            portrait,
            driving,
            args.out,
            renderer=renderer,
            speech=load_speech(chosen_sound(args)) if args.speech else None,
            style=style,
            sound=chosen_sound(args),
            transfer=args.transfer,
            crf=args.crf,
            callbacks=Callbacks(on_progress, sections=sections),
        )
    print_result(result, time.perf_counter() - started)


def _at_fps(track: LandmarkTrack | KeypointTrack, fps: str | None) -> LandmarkTrack | KeypointTrack:
    """The track resampled to --fps; prints a note if that changes its rate."""
    from ..motion import keypoint_time, resample
    from ..types import KeypointTrack

    in_time = keypoint_time if isinstance(track, KeypointTrack) else resample
    result = track if fps is None else in_time.at_fps(track, fps)
    if result.fps != track.fps:
        source, target = f"{len(track)} frames at {float(track.fps):g} fps", f"{len(result)} at {float(result.fps):g}"
        print(f"The track's {source} became {target}.")
    return result


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    add_file(parser, "--track", "IN.safetensors", "track made by `landmarks` or `track`, of landmarks or keypoints")
    add_file(parser, "--speech", "IN", "sound or video file that becomes the video's sound; none if left out", False)
    add_sound_track(parser)
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


COMMAND = Command(
    "render", "make a video of a portrait that follows a landmark or keypoint track", EXAMPLES, _add, render
)
