"""The command `plot`: plots a track over time."""

from __future__ import annotations

import argparse

from .arguments import PICTURE_SUFFIXES, Command, add_file, check_output

EXAMPLES = """example:
  portraittalk plot --track hello.safetensors --speech hello.wav --out hello.png"""


def plot(args: argparse.Namespace) -> None:
    """Plot a landmark or keypoint track to a picture file."""
    check_output(args.out, (), PICTURE_SUFFIXES)
    from ..face.track_file import load_motion
    from ..media.audio import load_speech
    from ..media.image import save_picture
    from ..plots.keypoints import plot_keypoints
    from ..plots.track import plot_track
    from ..types import KeypointTrack

    track = load_motion(args.track)
    draw = plot_keypoints if isinstance(track, KeypointTrack) else plot_track
    picture = draw(track, load_speech(args.speech) if args.speech else None)
    save_picture(picture, args.out)
    print(f"{args.out}: {picture.shape[1]}×{picture.shape[0]} pixels")


def _add(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--track", "IN.safetensors", "track of landmarks, made by `landmarks` or `track`, or of keypoints")
    add_file(parser, "--speech", "IN", "sound whose waveform is drawn under the curves", False)
    add_file(parser, "--out", "OUT.png", "picture to write")


PURPOSE = "draw a track: mouth, jaw, blink and pose curves over the waveform, and thumbnails; or its keypoints' curves"
COMMAND = Command("plot", PURPOSE, EXAMPLES, _add, plot)
