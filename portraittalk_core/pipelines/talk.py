"""Talking-head video of one portrait and one speech clip."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..engines.contract import LANDMARKS, MotionEngine, check_makes, output_kind, whole_track
from ..engines.registry import open_engine
from ..face.mesh.landmarks import find_portrait
from ..motion import keypoint_time
from ..motion.dub import dub_track, film_order
from ..motion.dub_options import DubOptions
from ..motion.options import MotionOptions
from ..motion.resample import at_fps
from ..motion.transfer import transfer_motion
from ..options import option_of
from ..progress import Progress
from ..renderers.contract import Callbacks, Film, Renderer, RenderJob
from ..renderers.implicit.renderer import ImplicitRenderer
from ..renderers.registry import open_renderer
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import KeypointTrack, LandmarkTrack, Portrait, Speech

log = logging.getLogger(__name__)


def talk(
    portrait: Portrait,
    speech: Speech,
    out: Path,
    options: MotionOptions | None = None,
    *,
    engine: MotionEngine | None = None,
    renderer: Renderer | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    driving: Film | None = None,
    film_end: str = "cut",
) -> RenderResult:
    """Render a portrait that speaks to a video file.

    Args:
        portrait: picture and landmarks of the face that is to speak.
        speech: what it says.
        out: the video file to write.
        options: frame rate, mouth gain, head motion, blinks, seed.
        engine: what moves the face; None is the built-in one.
        renderer: what draws; None is the warp.
        style: for renderers that look at a style; the engine's stands in the options.
        sound: the sound to put into the video; the speech itself if None.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
        driving: a video whose head, eyes and brows the portrait takes over, instead of the engine's.
        film_end: what follows where the speech is longer than `driving`, see `DubOptions`.

    Raises:
        OutputError: the file cannot be written.
        InputError: the engine makes keypoints that the renderer does not draw.
    """
    started, options, callbacks = time.perf_counter(), options or MotionOptions(), callbacks or Callbacks()
    total, engine, renderer = speech.num_frames(options.fps), engine or open_engine(), renderer or open_renderer()
    layout = getattr(renderer, "keypoint_layout", None)
    check_makes(engine, LANDMARKS, *([layout] if layout else []))  # before it works for minutes
    listening = _stoppable(callbacks.on_progress, total)
    if driving is None:
        motion = engine.spans(speech, portrait.landmarks, options, listening)
    elif getattr(renderer, "driver", None) is not None:  # which moves the mouth itself
        track = driven_keypoints(driving, portrait, speech, options, renderer, film_end)
        motion, total = (track,), len(track)
    else:
        track = driven_track(driving, portrait, speech, options, film_end)
        motion, total = (dub_track(track, speech, options, engine, listening, absolute=False),), len(track)
    job = RenderJob(portrait, motion, total, options.fps, speech, style, output_kind(engine) != LANDMARKS)
    sound = speech if sound is None else sound
    return render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def driven_track(
    driving: Film, portrait: Portrait, speech: Speech, options: MotionOptions, film_end: str = "cut"
) -> LandmarkTrack:
    """Motion of a video's face on a portrait, as long as a speech at the options' rate.

    Frames in which the face is not seen hold what is interpolated between those in which it is.

    Args:
        driving: of `pipelines.dub.read_film`.
        portrait: that takes the motion over.
        speech: whose length counts.
        options: whose frame rate counts.
        film_end: what follows where the speech is longer; "cut" ends with the video.
    """
    track = at_fps(driving.track, options.fps)
    order = _order_for(speech, len(track), options, driving, film_end)
    track = transfer_motion(track, portrait.landmarks)
    # what is interpolated where nobody was seen is motion as good as any
    return replace(track.at(order), valid=torch.ones(len(order), dtype=torch.bool))


def driven_keypoints(
    driving: Film,
    portrait: Portrait,
    speech: Speech,
    options: MotionOptions,
    renderer: ImplicitRenderer,
    film_end: str = "cut",
) -> KeypointTrack:
    """Motion of a video's face on a portrait as the renderer's own networks see it; else as `driven_track`."""
    track = keypoint_time.at_fps(renderer.motion_of(driving, portrait), options.fps)
    order = _order_for(speech, len(track), options, driving, film_end)
    track = keypoint_time.in_order(track, order)
    return replace(track, valid=torch.ones_like(track.valid))


def _order_for(speech: Speech, num_frames: int, options: MotionOptions, driving: Film, film_end: str) -> Tensor:
    """(T,) numbers of a driving video's frames, as they follow each other for a speech."""
    num_speech_frames = speech.num_frames(options.fps)
    if film_end == "cut" and num_speech_frames > num_frames:
        log.warning(
            "%s lasts %.2f s, the speech %.2f s: it is cut off where the driving video ends. To keep all of it: %s "
            "with hold, loop or ping-pong.", driving.source, float(num_frames / options.fps), speech.seconds,
            option_of(DubOptions, "film_end").flag,
        )  # fmt: skip
    return film_order(num_frames, num_speech_frames, film_end)[:num_speech_frames]


def landmarks_of_speech(
    picture: Tensor,
    speech: Speech,
    options: MotionOptions,
    face_index: int | None = None,
    reference: LandmarkTrack | None = None,
    engine: MotionEngine | None = None,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """The landmark track of a picture's face that speaks.

    Args:
        picture: (H, W, 3) uint8.
        speech: what is said.
        options: frame rate, mouth gain, head motion, blinks, seed.
        face_index: which face, 0 is the largest; None: the largest, and a warning tells of others.
        reference: the face's landmarks, if they are known already (its first frame counts).
        engine: what moves the face; None is the built-in one.
        on_progress: called with frames done and in all; may raise to stop.

    Raises:
        NoFaceError: no such face in the picture.
    """
    if reference is None:
        reference = find_portrait(picture, face_index).landmarks
    return whole_track(engine or open_engine(), speech, reference.slice(0, 1), options, on_progress)


def _stoppable(on_progress: Progress | None, total: int) -> Progress | None:
    """Progress for the engine: reports no frames done yet, but lets `on_progress` raise to stop."""
    return None if on_progress is None else lambda *_: on_progress(0, total)
