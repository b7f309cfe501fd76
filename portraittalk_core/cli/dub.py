"""The command `dub`: dubs a filmed face with new speech."""

from __future__ import annotations

import argparse
import time

from ..motion.dub_options import DubOptions
from ..renderers.contract import FILM
from .arguments import (
    VIDEO_SUFFIXES,
    Command,
    add_face,
    add_file,
    add_options,
    add_video,
    check_crf,
    check_output,
    chosen_face,
    open_chosen_mesh,
    options_from,
)
from .fit import add_fit, chosen_fit, fitted
from .motion import add_motion, motion_engine, motion_options
from .progress import progress_bar
from .renderers import add_renderer, flags_named, open_renderer, renderer_options
from .resume import resumed
from .sound import add_sound_track, chosen_sound
from .source import add_source, make_video, maker
from .style import chosen_style

EXAMPLES = """examples:
  portraittalk dub --video interview.mp4 --speech new.wav --out dubbed.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer identitynet --checkpoint sd15.safetensors --out c.mp4
  portraittalk dub --source a.mp4 --speech long.wav --film-end ping-pong --out c.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer lips --lips-file lips.safetensors --fit 10 --out c.mp4"""


def dub(args: argparse.Namespace) -> None:
    """Dub a video with a speech, or let a picture speak."""
    make_video(args, FILM)


@maker(FILM)
def dub_film(args: argparse.Namespace) -> None:
    """Dub the video of --video."""
    started = time.perf_counter()
    check_output(args.out, (args.video, args.speech), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options, (spec, render_options) = motion_options(args), renderer_options(args, FILM)
    dub_options, fit = options_from(args, DubOptions), chosen_fit(args, spec.name)
    from ..media.audio import load_speech
    from ..media.sound import SoundFile
    from ..pipelines.dub import dub as make_dub
    from ..pipelines.dub import read_film
    from ..renderers.contract import Callbacks

    engine, renderer = motion_engine(args), open_renderer(spec, render_options)
    SoundFile(chosen_sound(args)).close()  # what cannot be heard is told before the film is read
    with open_chosen_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        which = {"face_index": chosen_face(args), "face_order": args.face_order, "scenes": dub_options.scenes}
        film = read_film(args.video, mesh=mesh, **which, on_progress=on_progress)
    if fit is not None:
        args, renderer = fitted(args, fit, film, spec, render_options)
    speech = load_speech(chosen_sound(args), film.track.seconds if dub_options.film_end == "cut" else None)
    with flags_named(), resumed(args, render_options) as sections, progress_bar(spec.name) as on_progress:
        result = make_dub(
            film,
            speech,
            args.out,
            options,
            engine=engine,
            renderer=renderer,
            style=chosen_style(args),
            sound=chosen_sound(args),
            crf=args.crf,
            callbacks=Callbacks(on_progress, sections=sections),
            dub_options=dub_options,
        )
    took_s = time.perf_counter() - started
    print(f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, "
          f"made in {took_s:.1f} s")  # fmt: skip
    if film.num_faceless:
        print(f"No face was seen in {film.num_faceless} of {result.num_frames} frames; they say nothing new.")


def _add(parser: argparse.ArgumentParser) -> None:
    add_source(parser, FILM, "video with a face in it; frames without it stay as they are")
    add_file(parser, "--speech", "IN", "sound or video file with the new speech; it becomes the video's sound")
    add_sound_track(parser)
    add_file(parser, "--out", "OUT.mp4", "video to write, of the same size and rate, and as long")
    add_options(parser.add_argument_group("length"), DubOptions, filled=True)
    add_motion(parser, filmed=True)
    add_face(parser)
    add_video(parser)
    add_renderer(parser, FILM)
    add_fit(parser)


COMMAND = Command("dub", "let the face of a video say something else", EXAMPLES, _add, dub)
