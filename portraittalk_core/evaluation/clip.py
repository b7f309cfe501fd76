"""Video to be evaluated, and the result of one tracking pass: landmarks on disk, curves in memory.

Shapes: T frames, N samples.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..face.geometry import eye_open, head_pose, mouth_open
from ..face.mesh.backends import MeshBackend
from ..face.mesh.tracking import Follower
from ..media.mix import mix_blocks
from ..media.sound import SoundChoice, SoundFile
from ..media.video_read import probe_video
from ..metrics.meter import FaceCurves
from ..metrics.sound_mouth import LEVEL_HZ
from ..types import NUM_LANDMARKS, SPEECH_RATE_HZ, LandmarkTrack
from .source import PictureSource, shown_frames

BLOCK = 256  # frames whose landmarks are in memory at once
THUMB_PX = 16  # side of the grey thumbnails by which pictures without faces are aligned
SILENCE = 1e-4  # root mean square below which sound is silence
MIN_LEVELS = 10  # of 10 ms; a shorter sound has no curve to correlate
ROUNDING = 0.02  # of a frame: lengths of files are rounded


@dataclass(frozen=True)
class EvaluationClip:
    """Video to be evaluated: pictures with their sound, or a landmark track."""

    pictures: PictureSource | None
    sound: Callable[[], Iterator[np.ndarray]] | None = None  # (1, n) float32 blocks at 16 kHz; called more than once
    no_sound: str = "the video has no sound track"  # why there is none
    track: LandmarkTrack | None = None  # in place of pictures
    track_name: str = "the track"

    @staticmethod
    def of_file(path: Path, sound_track: int | None = None) -> EvaluationClip:
        """A video file.

        Args:
            path: of the video.
            sound_track: which one is listened to, from 1; None is its default.

        Raises:
            MediaError: it is not one.
            InputError: it has no such sound track.
        """
        choice, has_sound = SoundChoice(Path(path), sound_track), probe_video(path).has_sound
        if sound_track is not None:
            SoundFile(choice).close()
        return EvaluationClip(PictureSource.of_file(path), partial(_sound_blocks, choice) if has_sound else None)

    @staticmethod
    def of_track(track: LandmarkTrack, name: str) -> EvaluationClip:
        """Landmarks without pictures and sound; `name` is what to call them in messages."""
        return EvaluationClip(None, no_sound="a landmark track has no sound", track=track, track_name=name)

    @property
    def name(self) -> str:
        """What to call it in messages and reports."""
        return self.track_name if self.pictures is None else self.pictures.name

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        source = self.track if self.pictures is None else self.pictures
        return source.width, source.height

    @property
    def fps(self) -> Fraction:
        """Its own frame rate."""
        return self.track.fps if self.pictures is None else self.pictures.fps

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.track.seconds if self.pictures is None else self.pictures.seconds

    def num_frames(self, fps: Fraction) -> int:
        """About how many frames it has at a frame rate, at least 1."""
        return max(1, math.ceil(self.seconds * float(fps) - ROUNDING))

    def waveform(self) -> Tensor:
        """(N,) float32 of its sound at 16 kHz.

        Raises:
            InputError: it has none.
        """
        if self.sound is None:
            raise InputError(self.no_sound)
        blocks = [block.reshape(-1) for block in self.sound()]
        return torch.from_numpy(np.concatenate(blocks)) if blocks else torch.zeros(0)


def _sound_blocks(choice: SoundChoice) -> Iterator[np.ndarray]:
    with SoundFile(choice) as sound:
        yield from mix_blocks(sound.blocks(), 1, SPEECH_RATE_HZ)


class LandmarkStore:
    """Landmarks of many frames in an unnamed temporary file: 86 MB for 10 minutes."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="portraittalk_score_")  # noqa: SIM115 - closed with the store
        self._count = 0

    def append(self, points: Tensor) -> None:
        """Add (478, 3) float32 of the next frame."""
        self._file.seek(0, 2)
        self._file.write(points.contiguous().numpy().tobytes())
        self._count += 1

    def take(self, frames: Tensor) -> Tensor:
        """(K, 478, 3) float32 of some frames, by their numbers in rising order."""
        if not len(frames):
            return torch.zeros(0, NUM_LANDMARKS, 3)
        size = NUM_LANDMARKS * 3 * 4
        first, last = int(frames[0]), int(frames[-1])
        self._file.seek(first * size)
        read = np.frombuffer(self._file.read((last - first + 1) * size), dtype=np.float32)
        return torch.from_numpy(read.reshape(-1, NUM_LANDMARKS, 3)[(frames - first).numpy()].copy())

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Close the file, which frees its disk space."""
        self._file.close()


@dataclass(frozen=True)
class TrackedClip:
    """Result of one tracking pass: landmarks, curves and thumbnails."""

    name: str
    width: int  # pixels
    height: int  # pixels
    store: LandmarkStore  # landmarks normalised to 0..1, zero where no face was tracked
    curves: FaceCurves
    thumbs: Tensor  # (T, 256) uint8: grey pictures of 16×16; zero where there are no pictures

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return self.curves.fps

    @property
    def valid(self) -> Tensor:
        """(T,) bool: a face was tracked."""
        return self.curves.valid

    def track(self, frames: Tensor) -> LandmarkTrack:
        """The landmarks of some frames (their numbers, rising) as a track."""
        return LandmarkTrack(self.store.take(frames), self.valid[frames], self.fps, self.width, self.height)

    def blocks(self, frames: Tensor) -> Iterator[LandmarkTrack]:
        """Tracks of `BLOCK` of some frames at a time."""
        for start in range(0, len(frames), BLOCK):
            yield self.track(frames[start : start + BLOCK])


def track_clip(
    clip: EvaluationClip,
    fps: Fraction,
    mesh: MeshBackend | None,
    face_index: int = 0,
    max_frames: int | None = None,
    over: Callable[[Iterable[Tensor]], Iterator[Tensor]] = iter,
) -> TrackedClip:
    """Track the face through a video, holding one picture at a time; a video without a face is no error.

    Args:
        clip: the video; of a landmark track, the frame shown at each moment is taken.
        fps: frames per second at which it is sampled.
        mesh: an open face-mesh back end; a landmark track needs none.
        face_index: which face, 0 is the largest.
        max_frames: read at most so many.
        over: passes pictures on and counts them.
    """
    collector = _Pass()
    if clip.pictures is None:
        for k in shown_frames(len(clip.track), clip.track.fps, fps)[:max_frames]:
            collector.add_points(clip.track.points[k] if clip.track.valid[k] else None)
            collector.thumbs.append(torch.zeros(THUMB_PX**2, dtype=torch.uint8))
    else:
        follower = Follower(mesh, face_index, "size")
        for picture in over(itertools.islice(clip.pictures.read(fps), max_frames)):
            height, width = picture.shape[:2]
            points = follower.see(picture)
            scale = torch.tensor([width, height, width], dtype=torch.float32)
            collector.add_points(None if points is None else (points / scale).float())
            collector.add_picture(picture)
    level, no_sound = sound_level(clip)
    curves = _face_curves(collector.store, torch.tensor(collector.valid, dtype=torch.bool), clip.size, fps)
    change = torch.tensor(collector.change, dtype=torch.float64)
    curves = replace(curves, picture_change=change, sound_level=level, no_sound=no_sound)
    thumbs = torch.stack(collector.thumbs) if collector.thumbs else torch.zeros(0, THUMB_PX**2, dtype=torch.uint8)
    return TrackedClip(clip.name, *clip.size, collector.store, curves, thumbs)


class _Pass:
    """Accumulator of a tracking pass, frame by frame."""

    def __init__(self) -> None:
        self.store = LandmarkStore()
        self.valid: list[bool] = []
        self.thumbs: list[Tensor] = []  # (256,) uint8
        self.change: list[float] = []  # of grey level, from the picture before
        self._grey: Tensor | None = None

    def add_points(self, points: Tensor | None) -> None:
        """The next frame's landmarks (478, 3) in 0..1, or None without a face."""
        self.valid.append(points is not None)
        self.store.append(torch.zeros(NUM_LANDMARKS, 3) if points is None else points)

    def add_picture(self, picture: Tensor) -> None:
        """The next frame's picture (H, W, 3) uint8."""
        previous, self._grey = self._grey, _grey(picture)
        self.thumbs.append(_thumb(self._grey))
        if previous is not None:
            self.change.append(float((self._grey - previous).abs().mean()))


def _face_curves(store: LandmarkStore, valid: Tensor, size: tuple[int, int], fps: Fraction) -> FaceCurves:
    mouth, eyes = torch.full((2, len(valid)), torch.nan)
    angles = torch.full((len(valid), 3), torch.nan)
    valid_frames = valid.nonzero()[:, 0]
    for start in range(0, len(valid_frames), BLOCK):
        frames = valid_frames[start : start + BLOCK]
        track = LandmarkTrack(store.take(frames), valid[frames], fps, *size)
        mouth[frames], eyes[frames] = mouth_open(track), eye_open(track)
        angles[frames] = head_pose(track).angles_deg
    return FaceCurves(fps, valid, mouth, eyes, angles, torch.zeros(0, dtype=torch.float64))


def sound_level(clip: EvaluationClip) -> tuple[Tensor | None, str]:
    """A video's sound level as in `level_of_blocks`, or None and why there is none."""
    if clip.sound is None:
        return None, clip.no_sound
    try:
        level = level_of_blocks(clip.sound())
    except MediaError as error:
        return None, str(error)
    if len(level) < MIN_LEVELS:
        return None, "the sound is shorter than 0.1 s"
    if float(level.max()) <= 20 * math.log10(SILENCE) + 1e-6:
        return None, "the sound is silent"
    return level, ""


def level_of_blocks(blocks: Iterable[np.ndarray]) -> Tensor:
    """(M,) float64 level of a sound's 10 ms stretches in decibels of full scale, 100 a second, not below −80.

    Args:
        blocks: (1, n) float32 at 16 kHz; none is kept.
    """
    step, rest, levels = SPEECH_RATE_HZ // LEVEL_HZ, np.zeros(0, np.float32), []
    for block in blocks:
        samples = np.concatenate([rest, block.reshape(-1)])
        num_used = len(samples) // step * step
        power = np.square(samples[:num_used].reshape(-1, step), dtype=np.float64).mean(1)
        levels.append(10 * np.log10(np.maximum(np.nan_to_num(power), SILENCE**2)))
        rest = samples[num_used:]
    return torch.from_numpy(np.concatenate(levels) if levels else np.zeros(0))


def _grey(picture: Tensor) -> Tensor:
    """(h, w) float32: the picture's brightness at about 128 pixels of its longer side."""
    step = max(1, max(picture.shape[:2]) // 128)
    return picture[step // 2 :: step, step // 2 :: step].float().mean(2)


def _thumb(grey: Tensor) -> Tensor:
    small = torch.nn.functional.adaptive_avg_pool2d(grey[None], THUMB_PX)[0]
    return small.round().to(torch.uint8).flatten()
