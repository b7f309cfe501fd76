"""Keypoints and landmarks of a face in a VIDEO or IMAGE, which is read twice: for the landmarks, then the keypoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import track_faces
from ...portraittalk_core.face.scenes import SceneFinder
from ...portraittalk_core.media.video_read import probe_video, read_pictures
from ...portraittalk_core.motion.keypoint_time import FILLS
from ...portraittalk_core.types import KeypointTrack, LandmarkTrack, as_fps
from . import convert, convert_video
from .face_place import index_at
from .keypoints import KeypointNetworks, keypoints_of_pictures
from .progress import Progress, counted, face_mesh


@dataclass(frozen=True)
class VideoFace:
    """One face of a video."""

    keypoints: KeypointTrack
    landmarks: LandmarkTrack
    first: Tensor  # (H, W, 3) uint8: the first picture that shows it


@dataclass(frozen=True)
class PictureSource:
    """Pictures that can be read again and again."""

    pictures: Callable[[Callable[[int, int], None] | None], Iterator[Tensor]]  # with a callback for each one read
    fps: Fraction


def extracted(
    networks: KeypointNetworks,
    fps: float,
    face: tuple[int, object | None],
    on_missing: str,
    crop: str = "fixed",
    video: object | None = None,
    frames: object | None = None,
) -> VideoFace:
    """The face of whichever input is connected.

    Args:
        networks: of a family.
        fps: frames per second of `frames`.
        face: face_index, and the MASK or box that goes before it.
        on_missing: see `face.mesh.landmarks.track_faces`.
        crop: see `extract.keypoint_track_of_film`.
        video: a VIDEO.
        frames: an IMAGE.

    Raises:
        InputError: nothing is connected.
        NoFaceError: there is no face.
    """
    with _picture_source(video, frames, fps) as source:
        progress = Progress()
        face_track = _tracked(source, face, on_missing, _half(progress, 0))
        how = {"crop": crop, "scenes": face_track.scenes, "on_missing": on_missing if on_missing in FILLS else FILLS[0]}
        track = keypoints_of_pictures(
            networks, source.pictures(None), face_track.landmarks, on_progress=_half(progress, 1), **how
        )
        return VideoFace(track, face_track.landmarks, face_track.first)


@contextmanager
def _picture_source(video: object | None, frames: object | None, fps: float) -> Iterator[PictureSource]:
    if video is None and frames is None:
        raise InputError("nothing to watch: connect a video or frames.")
    in_memory = None if video is None else convert_video.video_frames(video)
    if video is None or in_memory is not None:
        images, rate = (frames, as_fps(fps)) if video is None else in_memory
        pictures = convert.to_pictures(images)
        yield PictureSource(lambda on_progress: counted(pictures, len(pictures), on_progress or _no_progress), rate)
        return
    with convert_video.video_file(video) as path:
        rate = probe_video(path).fps
        yield PictureSource(lambda on_progress: read_pictures(path, rate, on_progress=on_progress), rate)


@dataclass(frozen=True)
class Tracked:
    """Landmarks of a face in a video."""

    landmarks: LandmarkTrack
    scenes: Tensor  # (T,) number of each frame's scene, between two cuts
    first: Tensor  # (H, W, 3) uint8: the first picture that shows the face


def _tracked(source: PictureSource, face: tuple, on_missing: str, progress: Callable) -> Tracked:
    first: list[Tensor] = []
    finder = SceneFinder()

    def on_face(picture: Tensor, points: Tensor | None) -> None:
        finder.see(picture, points)
        if points is not None and not first:
            first.append(picture)

    index, place = face
    with face_mesh() as mesh:
        if place is not None:
            index = index_at(place, next(source.pictures(None)), mesh, "the first frame")
        more = {"on_missing": on_missing, "source": "the video", "on_face": on_face}
        landmarks = track_faces(source.pictures(progress), source.fps, mesh, index, **more)
    return Tracked(landmarks, finder.scenes(), first[0])


def _half(progress: Progress, part: int) -> Callable[[int, int], None]:
    """Progress of the first or second half of the work."""
    return lambda done, total: progress(part * total + done, 2 * total)


def _no_progress(_done: int, _total: int) -> None:
    """Progress that nobody follows."""
