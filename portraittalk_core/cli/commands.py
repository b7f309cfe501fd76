"""What each command does: read the files, make one call into the library, say in short what came out.

The library is imported inside the functions, so that ``--help`` need not wait for torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import (
    PICTURE_SUFFIXES,
    TRACK_SUFFIXES,
    VIDEO_SUFFIXES,
    check_crf,
    check_output,
    open_asked_mesh,
    print_table,
)
from .identitynet import identity_options, talk_with_identity
from .progress import progress_bar
from .style import chosen_manner
from .vexpress import talk_with_vexpress, vexpress_options

if TYPE_CHECKING:
    from ..engines.registry import MotionEngine
    from ..pipelines.talk import TalkResult
    from ..types import LandmarkTrack, MotionOptions, Portrait, Speech


def talk(args: argparse.Namespace) -> None:
    """Portrait and speech to a video."""
    started = time.perf_counter()
    check_output(args.out, (args.portrait, args.speech), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options = motion_options(args)
    make = talk_with_identity if identity_options(args) else _talk_with_warp
    make = talk_with_vexpress if vexpress_options(args) else make
    from ..media.audio import load_speech

    engine = motion_engine(args)
    speech = load_speech(args.speech)
    options = _with_gain_curve(options, args, speech)
    portrait = _find_portrait(args)
    result = make(args, portrait, speech, options, engine)
    _say_made(result, time.perf_counter() - started)


def _talk_with_warp(
    args: argparse.Namespace, portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine
) -> TalkResult:
    from ..pipelines.talk import talk as make_video

    with progress_bar("talking video") as on_progress:
        return make_video(
            portrait,
            speech,
            args.out,
            options,
            engine=engine,
            sound=args.speech,
            crf=args.crf,
            on_progress=on_progress,
        )


def landmarks(args: argparse.Namespace) -> None:
    """Portrait and speech to a track."""
    started = time.perf_counter()
    check_output(args.out, (args.portrait, args.speech), TRACK_SUFFIXES)
    options = motion_options(args)
    from ..media.audio import load_speech
    from ..media.records import save_record

    engine = motion_engine(args)
    speech = load_speech(args.speech)
    options = _with_gain_curve(options, args, speech)
    portrait = _find_portrait(args)
    with progress_bar("moving the face") as on_progress:
        made = engine(speech, portrait.landmarks, options, on_progress)
    save_record(made, args.out)
    _say_tracked(args.out, made, time.perf_counter() - started)


def track(args: argparse.Namespace) -> None:
    """A real video to the track of a face in it."""
    started = time.perf_counter()
    check_output(args.out, (args.video,), TRACK_SUFFIXES)
    from ..face.mesh.landmarks import track_faces
    from ..media.records import save_record
    from ..media.video import probe_video, read_pictures
    from ..types import as_fps

    fps = as_fps(args.fps) if args.fps else probe_video(args.video).fps
    with open_asked_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        found = track_faces(
            read_pictures(args.video, fps, on_progress=on_progress),
            fps,
            mesh=mesh,
            face_index=args.face_index,
            face_order=args.face_order,
            on_missing=args.on_missing,
            source=args.video.name,
        )
    save_record(found, args.out)
    _say_tracked(args.out, found, time.perf_counter() - started)
    unseen = len(found) - int(found.valid.sum())
    if unseen:
        print(
            f"No face was seen in {unseen} of {len(found)} frames; their landmarks are filled in ({args.on_missing})."
        )


def render(args: argparse.Namespace) -> None:
    """Portrait and track to a video."""
    started = time.perf_counter()
    inputs = [path for path in (args.portrait, args.track, args.speech) if path]
    check_output(args.out, inputs, VIDEO_SUFFIXES)
    check_crf(args.crf)
    from ..pipelines.talk import render_track
    from ..renderers.warp.renderer import check_same_shape

    driving = _at_fps(_load_track(args.track), args.fps)
    portrait = _find_portrait(args)
    try:
        check_same_shape(driving, portrait.landmarks.width, portrait.landmarks.height)
    except InputError as error:
        raise InputError(f"{args.track.name} does not fit {args.portrait.name}: {error}") from error
    with progress_bar("rendering") as on_progress:
        result = render_track(
            portrait,
            driving,
            args.out,
            sound=args.speech,
            transfer=args.transfer,
            crf=args.crf,
            on_progress=on_progress,
        )
    _say_made(result, time.perf_counter() - started)


def plot(args: argparse.Namespace) -> None:
    """A track to a picture of its curves."""
    inputs = [path for path in (args.track, args.speech) if path]
    check_output(args.out, inputs, PICTURE_SUFFIXES)
    from ..media.audio import load_speech
    from ..media.image import save_picture
    from ..plots.track import plot_track

    drawn = plot_track(_load_track(args.track), load_speech(args.speech) if args.speech else None)
    save_picture(drawn, args.out)
    print(f"{args.out}: {drawn.shape[1]}×{drawn.shape[0]} pixels")


def doctor(args: argparse.Namespace) -> None:
    """What is installed and what to do about the rest."""
    from ..pipelines.doctor import diagnose

    diagnosis = diagnose(args.models)
    if args.json:
        print(diagnosis.to_json())
        return
    for section in diagnosis.sections:
        rows = [("ok" if line.ok else "!", line.name, line.found, line.advice) for line in section.lines]
        print_table(section.title, rows)


def motion_options(args: argparse.Namespace) -> MotionOptions:
    """Of the motion engine; a wrong one is told before any work."""
    from ..types import MotionOptions, as_fps

    names = [field.name for field in dataclasses.fields(MotionOptions) if field.name != "gain_curve"]
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}  # a command need not have them all
    given["manner"] = chosen_manner(args)
    return MotionOptions(**given | ({"fps": as_fps(args.fps)} if "fps" in given else {}))


def motion_engine(args: argparse.Namespace) -> MotionEngine:
    """The engine asked for; a wrong file is told before any work."""
    from ..engines.registry import EngineFiles, open_engine

    if args.engine is None:
        return open_engine()
    return open_engine(EngineFiles(args.engine, args.encoder, args.face_model))


def _with_gain_curve(options: MotionOptions, args: argparse.Namespace, speech: Speech) -> MotionOptions:
    """The options with the gain that a file of points gives every frame."""
    if args.gain_points is None:
        return options
    from ..motion.gain import gain_curve

    try:
        text = args.gain_points.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the gain points {args.gain_points} cannot be read ({error}); give a JSON file.") from error
    curve = gain_curve(text, speech.num_frames(options.fps), options.fps)
    return dataclasses.replace(options, gain_curve=curve)


def _find_portrait(args: argparse.Namespace) -> Portrait:
    from ..face.mesh.landmarks import find_portrait
    from ..media.image import load_picture

    picture = load_picture(args.portrait)
    with open_asked_mesh(args) as mesh:
        return find_portrait(picture, args.face_index, args.face_order, source=args.portrait.name, mesh=mesh)


def _load_track(path: Path) -> LandmarkTrack:
    from ..face.track_file import load_track

    return load_track(path)


def _at_fps(track: LandmarkTrack, fps: str | None) -> LandmarkTrack:
    """The track at the rate that is asked for, with a note where that is another."""
    from ..motion.resample import at_fps

    made = track if fps is None else at_fps(track, fps)
    if made.fps != track.fps:
        print(f"The track's {len(track)} frames at {float(track.fps):g} fps became {len(made)} at {float(made.fps):g}.")
    return made


def _say_made(result: TalkResult, took_s: float) -> None:
    print(
        f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, made in "
        f"{result.elapsed_s:.1f} s ({result.speed:.1f}× real time; {took_s:.1f} s with loading)"
    )


def _say_tracked(out: Path, made: LandmarkTrack, took_s: float) -> None:
    print(f"{out}: {made.seconds:.2f} s, {len(made)} frames at {float(made.fps):g} fps, made in {took_s:.1f} s")
