"""Talking-head video of one portrait and one speech clip."""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor

from ..engines.contract import MotionEngine, whole_track
from ..engines.registry import open_engine
from ..face.mesh.landmarks import find_portrait
from ..motion.options import MotionOptions
from ..progress import Progress
from ..renderers.contract import Callbacks, Renderer, RenderJob
from ..renderers.registry import open_renderer
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import LandmarkTrack, Portrait, Speech


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

    Raises:
        OutputError: the file cannot be written.
    """
    started, options, callbacks = time.perf_counter(), options or MotionOptions(), callbacks or Callbacks()
    total = speech.num_frames(options.fps)
    listening = _stoppable(callbacks.on_progress, total)
    motion = (engine or open_engine()).spans(speech, portrait.landmarks, options, listening)
    job = RenderJob(portrait, motion, total, options.fps, speech, style)
    sound = speech if sound is None else sound
    renderer = renderer or open_renderer()
    return render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def landmarks_of_speech(
    picture: Tensor,
    speech: Speech,
    options: MotionOptions,
    face_index: int = 0,
    reference: LandmarkTrack | None = None,
    engine: MotionEngine | None = None,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """The landmark track of a picture's face that speaks.

    Args:
        picture: (H, W, 3) uint8.
        speech: what is said.
        options: frame rate, mouth gain, head motion, blinks, seed.
        face_index: which face, 0 is the largest.
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
