"""Tracking of one face in a VIDEO, IMAGE frames or FACE_LANDMARKS."""

from __future__ import annotations

import dataclasses

from . import convert, convert_landmarks, convert_video
from .face_place import index_at
from .progress import Progress, counted, face_mesh, show_text


def tracked(fps, face, missing, video=None, frames=None, face_landmarks=None):
    """The landmarks of one face in whichever input is connected.

    Args:
        fps: of frames and face_landmarks.
        face: face_index, and face_at or None.
        missing: what to do with frames without the face, and what to call with each picture and its landmarks, or None.
        video: VIDEO.
        frames: IMAGE.
        face_landmarks: FACE_LANDMARKS.

    Raises:
        InputError: nothing is connected, or face_at goes with none of it.
        NoFaceError: no face is there.
    """
    from ...portraittalk_core.errors import InputError
    from ...portraittalk_core.types import as_fps

    if video is not None:
        return _track_video(video, face, missing)
    if frames is not None:
        return _track_frames(frames, fps, face, missing)
    if face_landmarks is None:
        raise InputError("nothing to watch: connect a video, frames or face_landmarks.")
    if face[1] is not None:
        raise InputError("face_at goes with a video or frames; faces in face_landmarks are chosen by face_index.")
    return convert_landmarks.to_track(face_landmarks, as_fps(fps), face[0], missing[0])


def _track_video(video, face, missing):
    from ...portraittalk_core.face.mesh.landmarks import track_faces
    from ...portraittalk_core.media.video_read import probe_video, read_pictures

    in_memory = convert_video.video_frames(video)
    if in_memory is not None:
        return _track_frames(*in_memory, face, missing)
    with convert_video.video_file(video) as path, face_mesh() as mesh:
        fps = probe_video(path).fps
        index = _index_of(face, lambda: next(read_pictures(path, fps)), mesh, "the first frame of the video")
        pictures = read_pictures(path, fps, on_progress=Progress())
        return track_faces(pictures, fps, mesh, index, on_missing=missing[0], source="the video", on_face=missing[1])


def of_one_person(track, scene_faces, node_id):
    """The track without the scenes of other people, whose frames count as those without a face; told on the node."""
    other_people = scene_faces.other_people() & track.valid
    if other_people.any():
        first = int(other_people.int().argmax()) / float(track.fps)
        show_text(
            node_id, f"{int(other_people.sum())} frames show another face, from {first:.2f} s on: they are left out."
        )
    return dataclasses.replace(track, valid=track.valid & ~other_people)


def _index_of(face, first_picture, mesh, source):
    """The face_index of a face that is given as face_index and face_at."""
    face_index, face_at = face
    return face_index if face_at is None else index_at(face_at, first_picture(), mesh, source)


def _track_frames(frames, fps, face, missing):
    from ...portraittalk_core.face.mesh.landmarks import track_faces
    from ...portraittalk_core.types import as_fps

    pictures = convert.to_pictures(frames)
    frames_read = counted(pictures, len(pictures), Progress())
    with face_mesh() as mesh:
        index = _index_of(face, lambda: pictures[0], mesh, "the first frame")
        return track_faces(
            frames_read, as_fps(fps), mesh, index, on_missing=missing[0], source="the frames", on_face=missing[1]
        )
