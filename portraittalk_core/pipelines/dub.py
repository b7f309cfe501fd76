"""Dubbing of a filmed face: the mouth follows a new speech, the rest of the video stays."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ..engines.contract import MotionEngine
from ..face.mesh.landmarks import MeshBackend, track_faces
from ..media.video_read import probe_video, read_pictures
from ..motion.dub import dub_track, film_order
from ..motion.dub_options import DubOptions
from ..motion.options import MotionOptions
from ..options import option_of
from ..progress import Progress
from ..renderers.contract import Callbacks, Film, Renderer, RenderJob
from ..renderers.registry import open_renderer
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import LandmarkTrack, Speech
from .render import LENGTHS_DIFFER_S, seconds_of

log = logging.getLogger(__name__)


def read_film(
    video: Path,
    *,
    mesh: MeshBackend | None = None,
    face_index: int = 0,
    face_order: str = "size",
    on_progress: Progress | None = None,
) -> Film:
    """Track the face of a video through all of its frames.

    Args:
        video: with a face in some of its frames, read one at a time.
        mesh: what finds landmarks; None opens one.
        face_index: which face.
        face_order: how faces are counted, see `face.mesh.landmarks.detect_faces`.
        on_progress: called with frames read and in all; may raise to stop.

    Raises:
        MediaError: the video cannot be read.
        NoFaceError: no frame shows the face.
    """
    fps = probe_video(video).fps
    pictures = read_pictures(video, fps, on_progress=on_progress)
    name = Path(video).name
    track = track_faces(pictures, fps, mesh, face_index, face_order, on_missing="interpolate", source=name)
    return Film(Path(video), track)


def dub(
    film: Film,
    speech: Speech,
    out: Path,
    options: MotionOptions,
    *,
    engine: MotionEngine,
    renderer: Renderer | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    dub_options: DubOptions | None = None,
) -> RenderResult:
    """Dub a film: render its face with the mouth of a new speech, as a stream of pictures.

    Args:
        film: of `read_film`.
        speech: what is to be said; after its end the mouth rests closed.
        out: the video file to write, as long as the film, or as the speech where that is longer and the options say so.
        options: of the mouth; its fps, head motion and blinks do not count.
        engine: what moves the mouth.
        renderer: what draws; None is the warp.
        style: for renderers that look at a style.
        sound: the new sound, the speech itself if None; cut, or silence added, where it is not as long.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
        dub_options: what follows where the speech is longer than the film.

    Raises:
        OutputError: the file cannot be written.
    """
    film_end = (dub_options or DubOptions()).film_end
    wanted = speech.num_frames(film.track.fps)
    if film_end != "cut" and wanted > len(film.track):
        film = film.in_order(film_order(len(film.track), wanted, film_end))
    return render_film(
        film,
        dub_track(film.track, speech, options, engine),
        out,
        renderer=renderer,
        speech=speech,
        style=style,
        sound=speech if sound is None else sound,
        crf=crf,
        callbacks=callbacks,
    )


def render_film(
    film: Film,
    track: LandmarkTrack,
    out: Path,
    *,
    renderer: Renderer | None = None,
    speech: Speech | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
) -> RenderResult:
    """Render a film whose face follows another track; see `dub`.

    Args:
        film: of `read_film`.
        track: where its landmarks go, one frame for each of the film's.
        out: the video file to write.
        renderer: what draws; None is the warp.
        speech: what is said, for renderers that listen.
        style: for renderers that look at a style.
        sound: the video's sound; silence if None.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
    """
    started = time.perf_counter()
    _compare_lengths(film.track.seconds, sound)
    job = RenderJob.of_track(film, track, speech, style)
    renderer = renderer or open_renderer()
    return render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def _compare_lengths(film_s: float, sound: Sound) -> None:
    """Log where sound and film differ in length; see `compare_lengths` of `render`."""
    sound_s = seconds_of(sound)
    if sound_s is None or abs(sound_s - film_s) < LENGTHS_DIFFER_S:
        return
    if sound_s > film_s:
        log.warning(
            "the film lasts %.2f s, the speech %.2f s: it is cut off where the film ends. To keep all of it, let the "
            "film go on: %s with hold, loop or ping-pong.", film_s, sound_s, option_of(DubOptions, "film_end").flag,
        )  # fmt: skip
    else:
        log.info("the film lasts %.2f s, the speech %.2f s: after it the mouth rests, in silence.", film_s, sound_s)
