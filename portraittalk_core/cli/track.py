"""The command `track`: landmark or keypoint track of a face in a video."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import InputError
from ..renderers.implicit.extract_options import ExtractOptions
from .arguments import (
    TRACK_SUFFIXES,
    Command,
    add_face,
    add_file,
    add_options,
    check_output,
    chosen_face,
    given_options,
    open_chosen_mesh,
    options_from,
)
from .landmarks import print_track
from .progress import progress_bar

if TYPE_CHECKING:
    from ..types import KeypointTrack, LandmarkTrack

EXAMPLES = """examples:
  portraittalk track --video interview.mp4 --on-missing interpolate --out interview.safetensors
  portraittalk track --video interview.mp4 --keypoints-folder models/liveportrait --out keypoints.safetensors"""


def track(args: argparse.Namespace) -> None:
    """Track the landmarks, or the keypoints, of a face through a video."""
    started = time.perf_counter()
    options = options_from(args, ExtractOptions)
    check_output(args.out, (args.video,), TRACK_SUFFIXES)
    from ..media.records import save_record
    from ..media.video_read import probe_video
    from ..types import as_fps

    fps = as_fps(args.fps) if args.fps else probe_video(args.video).fps
    if options.keypoints_folder is None:
        faces, filled = _landmarks(args, fps), "landmarks are"
    else:
        faces, filled = _keypoints(args, fps, options), "motion is"
    save_record(faces, args.out)
    print_track(args.out, faces, time.perf_counter() - started)
    faceless = len(faces) - int(faces.valid.sum())
    if faceless:
        print(f"No face was seen in {faceless} of {len(faces)} frames; their {filled} filled in ({args.on_missing}).")


def _landmarks(args: argparse.Namespace, fps: Fraction) -> LandmarkTrack:
    from ..face.mesh.landmarks import track_faces
    from ..media.video_read import read_pictures

    unused = [name for name in given_options(args, ExtractOptions) if name != "keypoints_folder"]
    if unused:
        flags = " and ".join("--" + name.replace("_", "-") for name in unused)
        raise InputError(f"{flags} cannot be used without --keypoints-folder: they are of keypoints. Leave them out.")
    with open_chosen_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        return track_faces(
            read_pictures(args.video, fps, on_progress=on_progress),
            fps,
            mesh=mesh,
            face_index=chosen_face(args),
            face_order=args.face_order,
            on_missing=args.on_missing,
            source=args.video.name,
        )


def _keypoints(args: argparse.Namespace, fps: Fraction, options: ExtractOptions) -> KeypointTrack:
    from ..pipelines.keypoints import keypoints_of_video
    from ..renderers.devices import select_device
    from ..renderers.implicit.files import open_keypoint_model

    model, _ = open_keypoint_model(options.keypoints_folder, *select_device(options.device, options.precision))
    with open_chosen_mesh(args) as mesh, progress_bar("finding keypoints") as on_progress:
        return keypoints_of_video(
            args.video,
            model,
            options,
            fps=fps,
            mesh=mesh,
            face_index=chosen_face(args),
            face_order=args.face_order,
            on_missing=args.on_missing,
            on_progress=on_progress,
        )


def _add(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--video", "IN", "video with a face in it")
    add_file(parser, "--out", "OUT.safetensors", "track to write")
    parser.add_argument("--fps", metavar="RATE", help="frames per second of the track; if not given, the video's own")
    parser.add_argument(
        "--on-missing",
        choices=("hold", "interpolate", "error"),
        default="hold",
        help="where no face is seen: keep the last landmarks, go straight to the next ones, or stop",
    )
    add_face(parser)
    add_options(parser.add_argument_group("keypoints"), ExtractOptions)


PURPOSE = "find a face's landmarks, or its implicit keypoints, in every frame of a real video"
COMMAND = Command("track", PURPOSE, EXAMPLES, _add, track)
