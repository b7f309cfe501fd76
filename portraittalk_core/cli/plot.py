"""The command `plot`: plots a track over time, or the mouth's opening of a video against it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import PICTURE_SUFFIXES, Command, add_file, check_output

if TYPE_CHECKING:
    from torch import Tensor

    from ..types import KeypointTrack, LandmarkTrack

EXAMPLES = """examples:
  portraittalk plot --track hello.safetensors --speech hello.wav --out hello.png
  portraittalk plot --track hello.safetensors --measured hello.mp4 --out opening.png"""


def plot(args: argparse.Namespace) -> None:
    """Plot a landmark or keypoint track to a picture file."""
    check_output(args.out, (), PICTURE_SUFFIXES)
    if args.measured and args.speech:
        raise InputError("--speech cannot be used with --measured, whose plot shows no sound; leave one of them out.")
    from ..face.track_file import load_motion
    from ..media.image import save_picture

    track = load_motion(args.track)
    picture = _opening(args, track) if args.measured else _curves(args, track)
    save_picture(picture, args.out)
    print(f"{args.out}: {picture.shape[1]}×{picture.shape[0]} pixels")


def _curves(args: argparse.Namespace, track: LandmarkTrack | KeypointTrack) -> Tensor:
    from ..media.audio import load_speech
    from ..plots.keypoints import plot_keypoints
    from ..plots.track import plot_track
    from ..types import KeypointTrack

    draw = plot_keypoints if isinstance(track, KeypointTrack) else plot_track
    return draw(track, load_speech(args.speech) if args.speech else None)


def _opening(args: argparse.Namespace, track: LandmarkTrack | KeypointTrack) -> Tensor:
    """Measure the mouth in a video's frames, print the numbers as JSON, and plot them against the track's."""
    from ..face.mesh.landmarks import open_mesh
    from ..media.video_read import read_pictures
    from ..plots.lip_opening import plot_opening
    from ..renderers.implicit.lip_opening import OpeningMeter, target_opening

    with open_mesh() as mesh:
        meter = OpeningMeter(mesh, track.fps)
        for number, picture in enumerate(read_pictures(args.measured, track.fps)):
            if number == len(track):
                break
            meter.see(picture)
    opening = meter.against(target_opening(track))
    print(json.dumps(opening.summary()))
    return plot_opening(opening, args.measured.name)


def _add(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--track", "IN.safetensors", "track of landmarks, made by `landmarks` or `track`, or of keypoints")
    add_file(parser, "--speech", "IN", "sound whose waveform is drawn under the curves", False)
    measured = "video rendered from the track: its mouth is measured, and plotted against what the track asks for"
    add_file(parser, "--measured", "VIDEO", measured, False)
    add_file(parser, "--out", "OUT.png", "picture to write")


PURPOSE = "draw a track: mouth, jaw, blink and pose curves over the waveform, and thumbnails; or its keypoints' curves"
COMMAND = Command("plot", PURPOSE, EXAMPLES, _add, plot)
