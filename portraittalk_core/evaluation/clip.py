"""One pass over a video to be scored: its face's landmarks go to disk, what is small stays in memory.

Shapes: T frames.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..face.geometry import eye_open, head_pose, mouth_open
from ..face.mesh.backends import MeshBackend
from ..face.mesh.tracking import Follower
from ..media.sound import SoundFile, mix_blocks
from ..media.video import probe_video
from ..types import NUM_LANDMARKS, SPEECH_RATE_HZ, LandmarkTrack
from .source import PictureSource

BLOCK = 256  # frames whose landmarks are in memory at once
THUMB_PX = 16  # side of the grey thumbnails by which pictures without faces are aligned


@dataclass(frozen=True)
class ScoredClip:
    """A video to be scored, and its sound if there is any."""

    pictures: PictureSource
    sound: Callable[[], Iterator[np.ndarray]] | None = None  # (1, n) float32 blocks at 16 kHz; called more than once
    silent_because: str = "the video has no sound track"

    @staticmethod
    def of_file(path: Path) -> ScoredClip:
        """A video file.

        Raises:
            MediaError: it is not one.
        """
        has_sound = probe_video(path).has_sound
        return ScoredClip(PictureSource.of_file(path), partial(_sound_blocks, Path(path)) if has_sound else None)


def _sound_blocks(path: Path) -> Iterator[np.ndarray]:
    with SoundFile(path) as sound:
        yield from mix_blocks(sound.blocks(), 1, SPEECH_RATE_HZ)


class PointStore:
    """Landmarks of many frames in an unnamed file: 10 minutes are 86 MB that need not be in memory."""

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
        """Give the disk space back."""
        self._file.close()


@dataclass(frozen=True)
class FollowedClip:
    """What one pass found."""

    name: str
    width: int  # pixels
    height: int  # pixels
    fps: Fraction
    store: PointStore  # landmarks normalised to 0..1, zero where no face was seen
    valid: Tensor  # (T,) bool: the face was seen
    thumbs: Tensor  # (T, 256) uint8: grey pictures of 16×16
    mouth_open: Tensor  # (T,) float32, NaN without a face
    eye_open: Tensor  # (T,) float32, NaN without a face
    angles_deg: Tensor  # (T, 3) float32, NaN without a face
    change: Tensor  # (T − 1,) float64: mean absolute difference to the picture before, grey levels 0..255

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def seconds(self) -> float:
        return float(len(self) / self.fps)

    def track(self, frames: Tensor) -> LandmarkTrack:
        """The landmarks of some frames (their numbers, rising) as a track."""
        return LandmarkTrack(self.store.take(frames), self.valid[frames], self.fps, self.width, self.height)

    def blocks(self, frames: Tensor, overlap: int = 0) -> Iterator[tuple[Tensor, LandmarkTrack]]:
        """Numbers and tracks of `BLOCK` frames at a time; each after the first begins `overlap` frames earlier."""
        for start in range(0, len(frames), BLOCK):
            chosen = frames[max(start - overlap, 0) : start + BLOCK]
            yield chosen, self.track(chosen)


def follow_clip(
    source: PictureSource,
    fps: Fraction,
    mesh: MeshBackend,
    face_index: int = 0,
    max_frames: int | None = None,
    over: Callable[[Iterable[Tensor]], Iterator[Tensor]] = iter,
) -> FollowedClip:
    """Follow the face through a video, holding one picture at a time; a video without a face is no error.

    Args:
        source: the video.
        fps: frames per second at which it is read.
        mesh: an open face-mesh back end.
        face_index: which face, 0 is the largest.
        max_frames: read at most so many.
        over: passes pictures on and counts them.
    """
    store, flags, thumbs, change = PointStore(), [], [], []
    follower, small = Follower(mesh, face_index, "size"), None
    scale = torch.ones(3)
    for picture in over(itertools.islice(source.read(fps), max_frames)):
        height, width = picture.shape[:2]
        scale = torch.tensor([width, height, width], dtype=torch.float32)
        found = follower.see(picture)
        flags.append(found is not None)
        store.append(torch.zeros(NUM_LANDMARKS, 3) if found is None else (found / scale).float())
        before, small = small, _grey(picture)
        thumbs.append(_thumb(small))
        if before is not None:
            change.append(float((small - before).abs().mean()))
    valid = torch.tensor(flags, dtype=torch.bool)
    curves = _curves(store, valid, (source.width, source.height), fps)
    return FollowedClip(
        source.name,
        source.width,
        source.height,
        fps,
        store,
        valid,
        torch.stack(thumbs) if thumbs else torch.zeros(0, THUMB_PX**2, dtype=torch.uint8),
        *curves,
        torch.tensor(change, dtype=torch.float64),
    )


def _curves(store: PointStore, valid: Tensor, size: tuple[int, int], fps: Fraction) -> tuple[Tensor, Tensor, Tensor]:
    mouth, eyes = torch.full((2, len(valid)), torch.nan)
    angles = torch.full((len(valid), 3), torch.nan)
    seen = valid.nonzero()[:, 0]
    for start in range(0, len(seen), BLOCK):
        frames = seen[start : start + BLOCK]
        track = LandmarkTrack(store.take(frames), valid[frames], fps, *size)
        mouth[frames], eyes[frames] = mouth_open(track), eye_open(track)
        angles[frames] = head_pose(track).angles_deg
    return mouth, eyes, angles


def _grey(picture: Tensor) -> Tensor:
    """(h, w) float32: the picture's brightness at about 128 pixels of its longer side."""
    step = max(1, max(picture.shape[:2]) // 128)
    return picture[step // 2 :: step, step // 2 :: step].float().mean(2)


def _thumb(grey: Tensor) -> Tensor:
    small = torch.nn.functional.adaptive_avg_pool2d(grey[None], THUMB_PX)[0]
    return small.round().to(torch.uint8).flatten()
