"""The command `track`: landmark track of a face in a video."""

from __future__ import annotations

import argparse
import time

from .arguments import TRACK_SUFFIXES, Command, add_face, add_file, check_output, open_chosen_mesh
from .landmarks import print_track
from .progress import progress_bar

EXAMPLES = """example:
  portraittalk track --video interview.mp4 --on-missing interpolate --out interview.safetensors"""


def track(args: argparse.Namespace) -> None:
    """Track the landmarks of a face through a video."""
    started = time.perf_counter()
    check_output(args.out, (args.video,), TRACK_SUFFIXES)
    from ..face.mesh.landmarks import track_faces
    from ..media.records import save_record
    from ..media.video_read import probe_video, read_pictures
    from ..types import as_fps

    fps = as_fps(args.fps) if args.fps else probe_video(args.video).fps
    with open_chosen_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        faces = track_faces(
            read_pictures(args.video, fps, on_progress=on_progress),
            fps,
            mesh=mesh,
            face_index=args.face_index,
            face_order=args.face_order,
            on_missing=args.on_missing,
            source=args.video.name,
        )
    save_record(faces, args.out)
    print_track(args.out, faces, time.perf_counter() - started)
    faceless = len(faces) - int(faces.valid.sum())
    if faceless:
        print(
            f"No face was seen in {faceless} of {len(faces)} frames; their landmarks are filled in ({args.on_missing})."
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


COMMAND = Command("track", "find a face's landmarks in every frame of a real video", EXAMPLES, _add, track)
