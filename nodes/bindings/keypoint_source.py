"""What Render Keypoints draws: a portrait or a film, and the motion fitted to it."""

from __future__ import annotations

from contextlib import ExitStack

import torch

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import find_portrait
from ...portraittalk_core.media.video_read import probe_video
from ...portraittalk_core.motion import keypoint_time, resample
from ...portraittalk_core.motion.dub import film_order
from ...portraittalk_core.pipelines.dub import read_film
from ...portraittalk_core.pipelines.render import driven_portrait, fit_track
from ...portraittalk_core.pipelines.same_person import DlibPerson
from ...portraittalk_core.progress import Progress
from ...portraittalk_core.renderers.contract import Film
from ...portraittalk_core.types import KeypointTrack, LandmarkTrack, Portrait
from . import convert, convert_video
from .face_place import choice_at
from .progress import face_mesh

Motion = KeypointTrack | LandmarkTrack
ADVICE = "connect a portrait or a film"


def source_and_motion(
    motion: Motion,
    files: ExitStack,
    progress: Progress,
    *,
    portrait: object | None = None,
    film: object | None = None,
    film_landmarks: LandmarkTrack | None = None,
    face_index: int = 0,
    face_at: object | None = None,
    film_end: str = "cut",
) -> tuple[Portrait | Film, Motion]:
    """The source of a rendering and its motion, of as many frames.

    Args:
        motion: of any face.
        files: closes what is opened for it.
        progress: called while a film is tracked.
        portrait: an IMAGE.
        film: a VIDEO; one of the two is needed.
        film_landmarks: of the film, if known.
        face_index: which face of several.
        face_at: MASK or box that says where it is; goes before the number.
        film_end: what follows where the motion is longer than the film.

    Raises:
        InputError: neither a portrait nor a film, or both.
        NoFaceError: there is no face.
    """
    if (portrait is None) == (film is None):
        received = "there is neither" if film is None else "both are connected"
        raise InputError(f"{ADVICE}: {received}.")
    if film is not None:
        opened = _opened(film, film_landmarks, (face_index, face_at), files, progress)
        return _of_one_length(opened, _at_rate_of(opened, motion), film_end)
    picture = convert.to_portrait(portrait)
    with face_mesh(notes=True) as mesh:
        if isinstance(motion, LandmarkTrack) and not face_index and face_at is None:
            face = driven_portrait(picture, motion, "the portrait", mesh)
        else:
            which = choice_at(face_index, face_at, tuple(picture.shape[:2]))
            face = find_portrait(picture, which, source="the portrait", mesh=mesh)
    return face, fit_track(face, motion) if isinstance(motion, LandmarkTrack) else motion


def _opened(film, landmarks, face, files: ExitStack, progress: Progress) -> Film:
    path = files.enter_context(convert_video.video_file(film))
    probe = probe_video(path)
    if landmarks is not None:
        if (probe.width, probe.height) != (landmarks.width, landmarks.height):
            sizes = f"{landmarks.width}×{landmarks.height}, the film {probe.width}×{probe.height}"
            raise InputError(f"film_landmarks belong to pictures of {sizes}; connect the landmarks of this film.")
        return Film(path, landmarks)
    which = choice_at(*face, (probe.height, probe.width))
    with face_mesh() as mesh:
        return read_film(path, mesh=mesh, face_index=which, on_progress=progress, people=DlibPerson())


def _at_rate_of(film: Film, motion: Motion) -> Motion:
    """The motion at the film's frame rate."""
    return (keypoint_time if isinstance(motion, KeypointTrack) else resample).at_fps(motion, film.track.fps)


def _of_one_length(film: Film, motion: Motion, film_end: str) -> tuple[Film, Motion]:
    """Film and motion of as many frames: the film goes on where the motion is longer, and ends with the motion."""
    order = film_order(len(film.track), len(motion), film_end)[: len(motion)]
    if len(order) < len(motion):
        return film, motion.slice(0, len(order))
    unchanged = len(order) == len(film.track) and torch.equal(order, torch.arange(len(order)))
    return film if unchanged else film.in_order(order), motion
