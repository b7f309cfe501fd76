"""Rendering of a portrait that follows a landmark or keypoint track to a video file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from torch import Tensor

from ..checks import check_choice
from ..errors import InputError
from ..face.mesh.landmarks import MeshBackend, detect_faces, find_portrait, open_mesh
from ..media.sound import SoundFile
from ..motion.transfer import belongs_to, transfer_motion
from ..renderers.contract import Callbacks, Renderer, RenderJob
from ..renderers.registry import open_renderer
from ..renderers.warp.renderer import check_same_shape
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import KeypointTrack, LandmarkTrack, Portrait, Speech

log = logging.getLogger(__name__)

TRANSFERS = ("auto", "absolute", "relative")
MAX_DISTANCE = 0.15  # of the picture: a track whose middle is this near to a face may have been made on it
LENGTHS_DIFFER_S = 0.1  # less between sound and track is rounding, or what an encoder adds


def render_track(
    portrait: Portrait,
    track: LandmarkTrack | KeypointTrack,
    out: Path,
    *,
    renderer: Renderer | None = None,
    speech: Speech | None = None,
    style: Style | None = None,
    sound: Sound = None,
    transfer: str = "auto",
    crf: int = 18,
    callbacks: Callbacks | None = None,
) -> RenderResult:
    """Render a portrait that follows a landmark or keypoint track to a video file.

    The video lasts as long as the track: a longer sound is cut, which is logged, and silence follows a shorter one.

    Args:
        portrait: picture and landmarks of the face that is to move.
        track: where its landmarks go, or another face's track; keypoints for a renderer that draws them.
        out: the video file to write.
        renderer: what draws; None is the warp.
        speech: what is said, for renderers that listen.
        style: how it is said, for renderers that look at it.
        sound: the sound to put into the video; none if None.
        transfer: "absolute" uses the points as they are, "relative" carries the motion of another face over,
            "auto" looks whether the track was made on this portrait. Keypoints are as they are, unless the renderer's
            own options carry them over.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.

    Raises:
        InputError: with `transfer` "absolute", the track's picture has another shape than the portrait; keypoints that
            the renderer cannot draw, or with `transfer` "relative".
        OutputError: the file cannot be written.
    """
    started = time.perf_counter()
    compare_lengths(track.seconds, sound)
    motion = _as_it_is(track, transfer) if isinstance(track, KeypointTrack) else fit_track(portrait, track, transfer)
    job = RenderJob.of_track(portrait, motion, speech, style)
    renderer = renderer or open_renderer()
    return render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def _as_it_is(track: KeypointTrack, transfer: str) -> KeypointTrack:
    if check_choice(transfer, TRANSFERS, "transfer") == "relative":
        raise InputError(
            "`transfer` is for landmark tracks; the renderer carries keypoints over itself, with its option `relative`."
        )
    return track


def fit_track(portrait: Portrait, track: LandmarkTrack, transfer: str = "auto") -> LandmarkTrack:
    """Retarget a track to a portrait (see `render_track`); the track of a picture of another shape is carried over.

    Raises:
        InputError: with "absolute", the track's picture has another shape than the portrait, or `transfer` is unknown.
    """
    check_choice(transfer, TRANSFERS, "transfer")
    height, width = portrait.picture.shape[:2]
    if transfer == "absolute":
        try:
            check_same_shape(track, width, height)
        except InputError as error:
            raise InputError(f"{error} Transfer relative or auto carries its motion over instead.") from error
        return track
    if transfer == "auto" and _of_same_shape(track, width, height) and belongs_to(track, portrait.landmarks):
        return track
    return transfer_motion(track, portrait.landmarks)


def _of_same_shape(track: LandmarkTrack, width: int, height: int) -> bool:
    try:
        check_same_shape(track, width, height)
    except InputError:
        return False
    return True


def driven_portrait(
    picture: Tensor, track: LandmarkTrack, source: str = "portrait", mesh: MeshBackend | None = None
) -> Portrait:
    """The portrait of the picture's face nearest to a track's mean position; else of its largest face.

    The track of a picture of another shape was made on another picture: then it is the largest face, too.

    Raises:
        NoFaceError: no face, or one too small.
    """
    if mesh is None:
        with open_mesh() as opened:
            return driven_portrait(picture, track, source, opened)
    height, width = picture.shape[:2]
    if not _of_same_shape(track, width, height):
        return find_portrait(picture, 0, source=source, mesh=mesh)
    faces = detect_faces(picture, mesh)
    middles = faces[:, :, :2].mean(1)
    distances = (middles - track.points[:, :, :2].mean((0, 1))).norm(dim=1)
    nearest = int(distances.argmin()) if len(faces) and float(distances.min()) < MAX_DISTANCE else 0
    return find_portrait(picture, nearest, source=source, mesh=mesh)


def compare_lengths(track_s: float, sound: Sound) -> None:
    """Log where sound and track differ in length.

    Args:
        track_s: length of the track, and so of the video.
        sound: see `render_track`.
    """
    sound_s = seconds_of(sound)
    if sound_s is None or abs(sound_s - track_s) < LENGTHS_DIFFER_S:
        return
    if sound_s > track_s:
        log.warning(
            "the landmarks last %.2f s, the sound %.2f s: the video ends with the landmarks, the sound is cut there. "
            "Make landmarks of the whole sound if it is to be kept.", track_s, sound_s,
        )  # fmt: skip
    else:
        log.info("the landmarks last %.2f s, the sound %.2f s: silence follows it.", track_s, sound_s)


def seconds_of(sound: Sound) -> float | None:
    """Duration of a sound in seconds; None without sound, or where the file does not state it."""
    if isinstance(sound, tuple):
        return sound[0].shape[-1] / sound[1]
    if sound is None or isinstance(sound, Speech):
        return sound and sound.seconds
    with SoundFile(sound) as file:
        return file.stated_s
