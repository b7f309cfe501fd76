"""Keypoint track of a face in a video file."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from ..face.choice import FaceChoice
from ..face.mesh.landmarks import MeshBackend, track_faces
from ..face.scenes import SceneFinder
from ..media.video_read import probe_video, read_pictures
from ..progress import Progress
from ..renderers.implicit.contract import KeypointModel
from ..renderers.implicit.extract import keypoint_track_of_film
from ..renderers.implicit.extract_options import ExtractOptions
from ..types import KeypointTrack, as_fps


def keypoints_of_video(
    video: Path,
    model: KeypointModel,
    options: ExtractOptions | None = None,
    *,
    fps: Fraction | float | str | None = None,
    mesh: MeshBackend | None = None,
    face_index: int | FaceChoice = 0,
    face_order: str = "size",
    on_missing: str = "hold",
    on_progress: Progress | None = None,
) -> KeypointTrack:
    """Follow one face through a video and extract its keypoints.

    The video is read twice, one frame at a time: for the face's place, and for its keypoints. Beside a cut the crop is
    another.

    Args:
        video: with a face in some of its frames.
        model: of a family.
        options: crop and batch; None are the defaults.
        fps: frames per second of the track; None is the video's own.
        mesh: what finds landmarks; None opens one.
        face_index: which face.
        face_order: how faces are counted, see `face.mesh.landmarks.detect_faces`.
        on_missing: "hold", "interpolate" or "error" where no face is seen.
        on_progress: called with frames read and twice the video's; may raise to stop.

    Raises:
        MediaError: the video cannot be read.
        NoFaceError: no frame shows the face, or `on_missing` is "error" and one does not.
    """
    options = options or ExtractOptions()
    fps = probe_video(video).fps if fps is None else as_fps(fps)
    finder = SceneFinder()

    def passes(number: int) -> Progress | None:
        return on_progress and (lambda done, total: on_progress(number * total + done, 2 * total))

    def pictures(number: int) -> Iterator[Tensor]:
        return read_pictures(video, fps, on_progress=passes(number))

    track = track_faces(
        pictures(0), fps, mesh, face_index, face_order, on_missing, Path(video).name, on_face=finder.see
    )
    fill = on_missing if on_missing == "interpolate" else "hold"
    return keypoint_track_of_film(
        model, pictures(1), track, crop=options.crop, on_missing=fill, scenes=finder.scenes(), batch=options.batch_size
    )
