"""The command `dub`: a video whose face says something else."""

from __future__ import annotations

import argparse
import time

from ..renderers.contract import FILM
from .arguments import VIDEO_SUFFIXES, Command, add_face, add_file, add_video, check_crf, check_output, open_asked_mesh
from .motion import add_motion, motion_engine, motion_options
from .progress import progress_bar
from .renderers import add_renderer, flags_named, open_chosen, renderer_options
from .resume import resumed
from .style import chosen_style

EXAMPLES = """examples:
  portraittalk dub --video interview.mp4 --speech new.wav --out dubbed.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer identitynet --checkpoint sd15.safetensors --out c.mp4"""


def dub(args: argparse.Namespace) -> None:
    """Video and speech to a video that says it."""
    started = time.perf_counter()
    check_output(args.out, (args.video, args.speech), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options, (spec, chosen) = motion_options(args), renderer_options(args, FILM)
    from ..media.audio import load_speech
    from ..pipelines.dub import dub as make_video
    from ..pipelines.dub import read_film
    from ..renderers.contract import Callbacks

    engine, speech = motion_engine(args), load_speech(args.speech)
    renderer = open_chosen(spec, chosen)
    with open_asked_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        which = {"face_index": args.face_index, "face_order": args.face_order}
        film = read_film(args.video, mesh=mesh, **which, on_progress=on_progress)
    with flags_named(), resumed(args, chosen) as sections, progress_bar(spec.name) as on_progress:
        result = make_video(
            film,
            speech,
            args.out,
            options,
            engine=engine,
            renderer=renderer,
            style=chosen_style(args),
            sound=args.speech,
            crf=args.crf,
            callbacks=Callbacks(on_progress, sections=sections),
        )
    took_s = time.perf_counter() - started
    print(f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, "
          f"made in {took_s:.1f} s")  # fmt: skip
    if film.num_faceless:
        print(f"No face was seen in {film.num_faceless} of {result.num_frames} frames; they say nothing new.")


def _add(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "--video", "IN", "video with a face in it; frames without it stay as they are")
    add_file(parser, "--speech", "IN", "sound or video file with the new speech; it becomes the video's sound")
    add_file(parser, "--out", "OUT.mp4", "video to write, of the same size, rate and length")
    add_motion(parser, filmed=True)
    add_face(parser)
    add_video(parser)
    add_renderer(parser, FILM)


COMMAND = Command("dub", "let the face of a video say something else", EXAMPLES, _add, dub)
