"""The command `dub`: dubs a filmed face with new speech."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ..motion.dub_options import DubOptions
from ..renderers.contract import FILM
from .also import add_also, check_sounds, read_also, speaker_names, speaking_faces, speeches, video_sound
from .arguments import (
    VIDEO_SUFFIXES,
    Command,
    add_face,
    add_file,
    add_options,
    add_video,
    check_crf,
    check_output,
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
from .style import add_style, chosen_style

if TYPE_CHECKING:
    from ..face.choice import FaceChoice
    from ..motion.options import MotionOptions
    from ..renderers.contract import Film
    from ..renderers.write import RenderResult

EXAMPLES = """examples:
  portraittalk dub --video interview.mp4 --speech new.wav --out dubbed.mp4
  portraittalk dub --video interview.mp4 --speech new.wav --style emphatic --out dubbed.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer identitynet --checkpoint sd15.safetensors --out c.mp4
  portraittalk dub --source a.mp4 --speech long.wav --film-end ping-pong --out c.mp4
  portraittalk dub --source a.mp4 --speech b.wav --renderer iplap --lips-file renderer_checkpoint.pth --out c.mp4
  portraittalk dub --source two.mp4 --face-order left_to_right --speech left.wav --also 1 right.wav --out c.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer lips --lips-file lips.safetensors --fit 10 --out c.mp4"""


def dub(args: argparse.Namespace) -> None:
    """Dub a video with a speech, or let a picture speak."""
    make_video(args, FILM)


@maker(FILM)
def dub_film(args: argparse.Namespace) -> None:
    """Dub the video of --video."""
    started = time.perf_counter()
    check_output(args.out, (args.video, args.speech, *read_also(args)), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options, (spec, render_options) = motion_options(args), renderer_options(args, FILM)
    dub_options, faces = options_from(args, DubOptions), speaking_faces(args)
    fit = chosen_fit(args, spec.name)
    from ..renderers.contract import Callbacks

    engine, renderer = motion_engine(args), open_renderer(spec, render_options)
    check_sounds(args)
    films = _films(args, faces, dub_options)
    if fit is not None:
        args, renderer = fitted(args, fit, films[0], spec, render_options)
    with flags_named(), resumed(args, render_options) as sections, progress_bar(spec.name) as on_progress:
        more = {
            "engine": engine,
            "renderer": renderer,
            "crf": args.crf,
            "callbacks": Callbacks(on_progress, sections=sections),
            "dub_options": dub_options,
        }
        result = _dub_one(args, films[0], options, more) if len(films) == 1 else _dub_all(args, films, options, more)
    took_s = time.perf_counter() - started
    print(f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, "
          f"made in {took_s:.1f} s")  # fmt: skip
    for film in films:
        if film.num_faceless:
            print(f"No face was seen in {film.num_faceless} of {result.num_frames} frames; they say nothing new.")


def _films(args: argparse.Namespace, faces: list[int | FaceChoice], dub_options: DubOptions) -> list[Film]:
    """The video, tracked on each of some faces."""
    from ..pipelines.dub import read_film
    from ..pipelines.same_person import described_by

    films = []
    with open_chosen_mesh(args) as mesh, described_by(dub_options.person_models) as people:
        for face in faces:
            with progress_bar("finding landmarks") as on_progress:
                which = {"face_index": face, "face_order": args.face_order, "scenes": dub_options.scenes}
                films.append(read_film(args.video, mesh=mesh, **which, people=people, on_progress=on_progress))
    return films


def _spoken_s(film: Film, dub_options: DubOptions) -> float | None:
    """How much of a speech is needed, seconds; None: all."""
    return film.track.seconds if dub_options.film_end == "cut" else None


def _dub_one(args: argparse.Namespace, film: Film, options: MotionOptions, more: dict[str, object]) -> RenderResult:
    from ..media.audio import load_speech
    from ..pipelines.dub import dub as make_dub

    sound = chosen_sound(args)
    speech = load_speech(sound, _spoken_s(film, more["dub_options"]))
    return make_dub(film, speech, args.out, options, style=chosen_style(args), sound=sound, **more)


def _dub_all(
    args: argparse.Namespace, films: list[Film], options: MotionOptions, more: dict[str, object]
) -> RenderResult:
    from ..pipelines.speakers import Speaker, dub_speakers

    at_most_s = _spoken_s(films[0], more["dub_options"])
    speakers = list(map(Speaker, films, speeches(args, at_most_s), speaker_names(args)))
    sound = video_sound(args, at_most_s)
    return dub_speakers(speakers, args.out, options, style=chosen_style(args), sound=sound, **more)


def _add(parser: argparse.ArgumentParser) -> None:
    add_source(parser, FILM, "video with a face in it; frames without it stay as they are")
    add_file(parser, "--speech", "IN", "sound or video file with the new speech; it becomes the video's sound")
    add_sound_track(parser)
    add_also(parser)
    add_file(parser, "--out", "OUT.mp4", "video to write, of the same size and rate, and as long")
    add_options(parser.add_argument_group("length"), DubOptions, filled=True)
    add_motion(parser, filmed=True)
    add_style(parser)
    add_face(parser)
    add_video(parser)
    add_renderer(parser, FILM)
    add_fit(parser)


COMMAND = Command("dub", "let the face of a video say something else", EXAMPLES, _add, dub)
