"""One portrait and one speech clip, or one landmark track, become a video file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_choice
from ..engines.builtin.engine import plan_motion
from ..engines.registry import MotionEngine, open_engine
from ..errors import InputError
from ..face import topology as topo
from ..face.mesh.landmarks import MeshBackend, detect_faces, find_portrait, open_mesh
from ..media.container import open_media
from ..media.video import VideoWriter
from ..motion.rig import SPAN, make_rig, plan_landmarks, plan_track
from ..motion.transfer import belongs_to, transfer_motion
from ..renderers.warp.renderer import REACH, PortraitRenderer, check_same_shape
from ..threads import one_torch_thread
from ..types import LandmarkTrack, MotionOptions, MotionPlan, Portrait, Speech

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Sound = Path | Speech | tuple[Tensor, int] | None
TRANSFERS = ("auto", "absolute", "relative")
NEAR = 0.15  # of the picture: a track whose middle is this near to a face may have been made on it
LENGTHS_DIFFER_S = 0.1  # less between sound and track is rounding, or what an encoder adds


@dataclass(frozen=True)
class TalkResult:
    """What was written and how fast."""

    path: Path
    num_frames: int
    fps: Fraction
    first_frame_s: float  # from the call until the first frame was handed to the encoder
    elapsed_s: float  # from the call until the file was complete

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return float(self.num_frames / self.fps)

    @property
    def speed(self) -> float:
        """Seconds of video per second of work."""
        return self.seconds / max(self.elapsed_s, 1e-9)


def talk(
    portrait: Portrait,
    speech: Speech,
    out: Path,
    options: MotionOptions | None = None,
    *,
    engine: MotionEngine | None = None,
    sound: Sound = None,
    crf: int = 18,
    on_progress: Progress | None = None,
) -> TalkResult:
    """Let a portrait speak.

    Args:
        portrait: picture and landmarks of the face that is to speak.
        speech: what it says.
        out: the video file to write.
        options: frame rate, mouth gain, head motion, blinks, seed.
        engine: what moves the face; None is the engine in the box.
        sound: the sound to put into the video; the speech itself if None.
        crf: H.264 quality, 0 lossless .. 51.
        on_progress: called with frames done and frames in all; may raise to stop, and then no file remains.

    Raises:
        OutputError: the file cannot be written.
    """
    started = time.perf_counter()
    options = options or MotionOptions()
    writer = _writer(out, portrait, options.fps, sound if sound is not None else speech, crf)
    with writer:  # opened before the work begins, so that a bad path is told at once
        pictures = talking_pictures(portrait, speech, options, engine or open_engine(), on_progress)
        return _write_all(writer, pictures, speech.num_frames(options.fps), started, on_progress)


def talking_pictures(
    portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine, on_progress: Progress | None
) -> Iterator[Tensor]:
    """The portrait in every frame of a speech; `on_progress` is called while the engine listens.

    Yields:
        (H, W, 3) uint8 pictures.
    """
    hearing = _heard(speech.num_frames(options.fps), on_progress)
    if engine.raw is None:
        plan = plan_motion(speech, portrait.landmarks, options, engine.network, hearing)
        yield from render_plan(portrait, plan)
    else:
        track = engine(speech, portrait.landmarks, options, hearing)
        yield from PortraitRenderer(portrait).render(track)


def _heard(total: int, on_progress: Progress | None) -> Progress | None:
    """Lets a run be stopped while the engine listens; frames count only once they are drawn."""
    return None if on_progress is None else lambda done, of: on_progress(0, total)


def landmarks_of_speech(
    picture: Tensor,
    speech: Speech,
    options: MotionOptions,
    face_index: int = 0,
    reference: LandmarkTrack | None = None,
    engine: MotionEngine | None = None,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """The landmarks of a picture's face that says something.

    Args:
        picture: (H, W, 3) uint8.
        speech: what is said.
        options: frame rate, mouth gain, head motion, blinks, seed.
        face_index: which face, 0 is the largest.
        reference: the face's landmarks, if they are known already (its first frame counts).
        engine: what moves the face; None is the engine in the box.
        on_progress: called with frames done and frames in all; may raise to stop.

    Raises:
        NoFaceError: no such face in the picture.
    """
    if reference is None:
        reference = find_portrait(picture, face_index).landmarks
    engine = engine or open_engine()
    if engine.raw is not None:
        return engine(speech, reference.slice(0, 1), options, on_progress)
    hearing = _heard(speech.num_frames(options.fps), on_progress)
    plan = plan_motion(speech, reference.slice(0, 1), options, engine.network, hearing)
    return plan_track(plan, on_progress)


def render_plan(portrait: Portrait, plan: MotionPlan) -> Iterator[Tensor]:
    """The portrait in every frame of a plan; landmarks exist only for a span at a time.

    Yields:
        (H, W, 3) uint8 pictures, as many as the plan has frames.
    """
    renderer, rig = PortraitRenderer(portrait), make_rig(plan.reference)
    for start in range(0, len(plan), SPAN):
        yield from renderer.render(plan_landmarks(plan, start, start + SPAN, rig))


def render_track(
    portrait: Portrait,
    track: LandmarkTrack,
    out: Path,
    *,
    sound: Sound = None,
    transfer: str = "auto",
    crf: int = 18,
    on_progress: Progress | None = None,
    on_picture: Callable[[Tensor], None] | None = None,
) -> TalkResult:
    """Let a portrait follow a landmark track.

    The video lasts as long as the track: a longer sound is cut, which is told, and silence follows a shorter one.

    Args:
        portrait: picture and landmarks of the face that is to move.
        track: where its landmarks go, or another face's track.
        out: the video file to write.
        sound: the sound to put into the video; none if None.
        transfer: "absolute" uses the points as they are, "relative" carries the motion of another face over,
            "auto" looks whether the track was made on this portrait.
        crf: H.264 quality, 0 lossless .. 51.
        on_progress: called with frames done and frames in all; may raise to stop, and then no file remains.
        on_picture: called with every picture (H, W, 3) uint8 before it is written.

    Raises:
        InputError: the track's picture has another shape than the portrait.
        OutputError: the file cannot be written.
    """
    started = time.perf_counter()
    compare_lengths(track.seconds, sound)
    fitted = fit_track(portrait, track, transfer)
    with _writer(out, portrait, track.fps, sound, crf) as writer:
        pictures = PortraitRenderer(portrait, needed_reach_px(portrait, fitted)).render(fitted)
        if on_picture:
            pictures = _shown(pictures, on_picture)
        return _write_all(writer, pictures, len(track), started, on_progress)


def fit_track(portrait: Portrait, track: LandmarkTrack, transfer: str = "auto") -> LandmarkTrack:
    """The track as this portrait is to follow it (see `render_track`).

    Raises:
        InputError: the track's picture has another shape than the portrait, or `transfer` is unknown.
    """
    check_choice(transfer, TRANSFERS, "transfer")
    height, width = portrait.picture.shape[:2]
    check_same_shape(track, width, height)
    if transfer == "absolute" or (transfer == "auto" and belongs_to(track, portrait.landmarks)):
        return track
    return transfer_motion(track, portrait.landmarks)


def compare_lengths(track_s: float, sound: Sound) -> None:
    """Tell where a sound does not last as long as the track that it is to go with.

    Args:
        track_s: length of the track, and so of the video.
        sound: see `render_track`.
    """
    sound_s = _seconds_of(sound)
    if sound_s is None or abs(sound_s - track_s) < LENGTHS_DIFFER_S:
        return
    if sound_s > track_s:
        log.warning(
            "the landmarks last %.2f s, the sound %.2f s: the video ends with the landmarks, the sound is cut there. "
            "Make landmarks of the whole sound if it is to be kept.", track_s, sound_s,
        )  # fmt: skip
    else:
        log.info("the landmarks last %.2f s, the sound %.2f s: silence follows it.", track_s, sound_s)


def _seconds_of(sound: Sound) -> float | None:
    """Length of a sound; None where there is none, or only decoding would tell."""
    if isinstance(sound, tuple):
        return sound[0].shape[-1] / sound[1]
    if sound is None or isinstance(sound, Speech):
        return sound and sound.seconds
    with open_media(Path(sound)) as file:
        if file.streams.audio and file.streams.audio[0].duration:
            return float(file.streams.audio[0].duration * file.streams.audio[0].time_base)
        return file.duration / 1e6 if file.duration else None  # FFmpeg counts a file's length in microseconds


def needed_reach_px(portrait: Portrait, track: LandmarkTrack) -> float:
    """How far outside the face the picture must give way, so that the largest head motion of a track folds nothing."""
    rest = portrait.landmarks.points_px[0, :, :2]
    size = torch.tensor([portrait.landmarks.width, portrait.landmarks.height], dtype=torch.float32)
    rigid = list(topo.RIGID)
    way = (track.points[:, rigid, :2] * size - rest[rigid]).norm(dim=2).amax()
    face = (rest.amax(0) - rest.amin(0)).min()
    return float(torch.maximum(REACH * face, 2.5 * way))


def driven_portrait(
    picture: Tensor, track: LandmarkTrack, source: str = "portrait", mesh: MeshBackend | None = None
) -> Portrait:
    """The picture with the landmarks of that face of it which a track was made on; else of its largest face.

    Raises:
        InputError: the track's picture has another shape.
        NoFaceError: no face, or one too small.
    """
    height, width = picture.shape[:2]
    check_same_shape(track, width, height)
    if mesh is None:
        with open_mesh() as opened:
            return driven_portrait(picture, track, source, opened)
    faces = detect_faces(picture, mesh)
    middles = faces[:, :, :2].mean(1)
    away = (middles - track.points[:, :, :2].mean((0, 1))).norm(dim=1)
    nearest = int(away.argmin()) if len(faces) and float(away.min()) < NEAR else 0
    return find_portrait(picture, nearest, source=source, mesh=mesh)


def _shown(pictures: Iterator[Tensor], on_picture: Callable[[Tensor], None]) -> Iterator[Tensor]:
    for picture in pictures:
        on_picture(picture)
        yield picture


def _writer(out: Path, portrait: Portrait, fps: Fraction, sound: Sound, crf: int) -> VideoWriter:
    height, width = portrait.picture.shape[:2]
    return VideoWriter(out, width, height, fps, sound=sound, crf=crf)


def _write_all(
    writer: VideoWriter, pictures: Iterator[Tensor], total: int, started: float, on_progress: Progress | None
) -> TalkResult:
    if total == 0:
        raise InputError("there is nothing to draw: the motion has 0 frames.")
    first = 0.0
    with one_torch_thread():
        for done, picture in enumerate(pictures, 1):
            writer.write(picture)
            if done == 1:
                first = time.perf_counter() - started
            if on_progress:
                on_progress(done, total)
    writer.close()
    return TalkResult(writer.path, total, writer.fps, first, time.perf_counter() - started)
