"""Training clips of prepared videos: consecutive frames, landmarks and head placements.

Shapes: B clips, F frames of a clip, S side of the square pictures in pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_range
from ...errors import InputError, MediaError
from ...face.identity.embedding import FaceEmbedding
from ...media.files import files_below
from ...media.image import load_picture
from ...media.records import load_record
from ...media.text_files import read_text
from ...renderers.animatenet.head_placement import placements
from ...types import LandmarkTrack
from .order import example_at
from .squares import fit_square

log = logging.getLogger(__name__)

# in the folder of a prepared video
MARKER, TRACK, SPEECH, FRAMES = "done.json", "landmarks.safetensors", "speech.safetensors", "frames"
FACE = "face.embedding.safetensors"  # of the reference frame; made where training asks for it, may be absent
CAPTION = "caption.txt"  # what a text prompt would say of the video; written by hand, may be absent
MAX_REASONS = 3  # reasons in an error text
MAX_LIST_BYTES = 64 * 2**20  # of a list of clips


@dataclass(frozen=True)
class VideoClip:
    """A prepared video of one face."""

    name: str  # for messages and for telling data apart
    read: Callable[[int], Tensor]  # of a frame's number: (3, H, W) in −1..1, H and W any but always the same
    track: LandmarkTrack  # on those pictures
    reference: int = 0  # the frame that stands for the person
    caption: str = ""
    face: FaceEmbedding | None = None  # who it is, to training with an identity
    references: Mapping[int, FaceEmbedding] = field(default_factory=dict)  # by frame number, see `references`


@dataclass(frozen=True)
class ClipBatch:
    """Batch of clips."""

    videos: tuple[int, ...]  # number of each clip's video, in the data
    starts: tuple[int, ...]  # number of each clip's first frame, in its video
    frames: Tensor  # (B, F, 3, S, S) in −1..1
    references: Tensor | None  # (B, 3, S, S) the person's reference picture; None: not read
    tracks: tuple[LandmarkTrack, ...]  # F frames of each clip, 0..1 of the square
    placements: Tensor  # (B, F, 6) where the head stands
    reference_placements: Tensor  # (B, 6) and where in the reference picture
    captions: tuple[str, ...]
    previous: Tensor | None = None  # (B, 3, S, S) the frame before each clip, or the reference picture; None: not read
    previous_placements: Tensor | None = None  # (B, 6) where the head stands there

    @property
    def points_px(self) -> Tensor:
        """(B, F, 478, 2) landmarks in pixels of the squares."""
        side = self.frames.shape[-1]
        return torch.stack([track.points[..., :2] for track in self.tracks]) * side


class VideoData:
    """Data set of prepared videos, from files or from memory.

    Args:
        videos: all of them.
        num_frames: F, of a clip.

    Raises:
        InputError: none has F consecutive frames that show the face.
    """

    def __init__(self, videos: Sequence[VideoClip], num_frames: int = 16) -> None:
        self.videos, self.num_frames = tuple(videos), int(check_range(num_frames, 1, 256, "frames"))
        runs = [_valid_starts(video.track.valid, num_frames) for video in self.videos]
        self._clips = [(number, start) for number, starts in enumerate(runs) for start in starts]
        if not self._clips:
            raise InputError(
                f"none of the {len(self.videos)} videos shows the face in {num_frames} frames one after another; "
                "prepare longer ones, or lower frames."
            )
        self._placed = [placements(video.track) for video in self.videos]

    def __len__(self) -> int:
        """Number of (overlapping) clips."""
        return len(self._clips)

    def num_pictures(self) -> int:
        """Number of frames that some clip shows."""
        frames = {(number, start + i) for number, start in self._clips for i in range(self.num_frames)}
        return len(frames)

    def clip_at(self, index: int) -> tuple[int, int]:
        """Video and first frame of a clip, 0..len − 1."""
        return self._clips[index]

    def fingerprint(self) -> str:
        """Hash of names, captions and landmarks."""
        digest = hashlib.sha256()
        for video in self.videos:
            digest.update(f"{video.name}\n{video.caption}\n{video.reference}\n".encode())
            digest.update(video.track.points.contiguous().numpy().tobytes())
            digest.update(video.track.valid.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batch(
        self, number: int, size: int, seed: int, side_px: int, *, references: bool = True, previous: bool = False
    ) -> ClipBatch:
        """The batch of a number, a function of its arguments alone.

        Every clip comes once before one comes again.

        Args:
            number: of the batch, from 0.
            size: clips in it.
            seed: of the order.
            side_px: S.
            references: whether the person's reference picture is read.
            previous: whether the frame before each clip is read.
        """
        places = range(number * size, (number + 1) * size)
        clips = [self._clips[example_at(place, len(self), seed)] for place in places]
        return self.at(clips, side_px, references=references, previous=previous)

    def at(
        self, clips: Sequence[tuple[int, int]], side_px: int, *, references: bool = True, previous: bool = False
    ) -> ClipBatch:
        """Batch of clips, each a video's number and a first frame."""
        videos = [self.videos[video] for video, _ in clips]

        def pictures(video: VideoClip, numbers: Sequence[int]) -> Tensor:
            return torch.stack([fit_square(video.read(number), side_px) for number in numbers])

        spans = [range(start, start + self.num_frames) for _, start in clips]
        previous_frames = [self._before(video, start) for video, start in clips]
        return ClipBatch(
            tuple(video for video, _ in clips),
            tuple(start for _, start in clips),
            torch.stack([pictures(*clip) for clip in zip(videos, spans, strict=True)]),
            torch.cat([pictures(video, [video.reference]) for video in videos]) if references else None,
            tuple(video.track.slice(span.start, span.stop) for video, span in zip(videos, spans, strict=True)),
            torch.stack([self._placed[v][s.start : s.stop] for (v, _), s in zip(clips, spans, strict=True)]),
            torch.stack([self._placed[v][self.videos[v].reference] for v, _ in clips]),
            tuple(video.caption for video in videos),
            torch.cat([pictures(v, [n]) for v, n in zip(videos, previous_frames, strict=True)]) if previous else None,
            torch.stack([self._placed[v][n] for (v, _), n in zip(clips, previous_frames, strict=True)])
            if previous
            else None,
        )

    def _before(self, video: int, start: int) -> int:
        """The frame before a clip where the face is seen in it, else the reference."""
        clip = self.videos[video]
        return start - 1 if start and bool(clip.track.valid[start - 1]) else clip.reference


def _valid_starts(valid: Tensor, num_frames: int) -> list[int]:
    """Start frames of all clips without a frame that lacks the face."""
    if len(valid) < num_frames:
        return []
    return valid.unfold(0, num_frames, 1).all(1).nonzero()[:, 0].tolist()


def read_videos(folder: Path, num_frames: int = 16, names: Collection[str] | None = None) -> VideoData:
    """Read the videos that `portraittalk prepare` has put into a folder, without dropped ones.

    A video's caption is in `caption.txt` in its own folder, if there is one, and its face in the record beside it.

    Args:
        folder: with prepared videos.
        num_frames: of a clip.
        names: paths below the folder; only these are read. None reads all.

    Raises:
        InputError: no folder, nothing that was prepared in it, nothing that can be used, or a broken caption.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the one that `portraittalk prepare` has made.")
    videos, reasons = [], []
    for marker in files_below(folder, MARKER):
        content, name = read_marker(marker.parent), marker.parent.relative_to(folder).as_posix()
        if not content or content.get("dropped") or (names is not None and name not in names):
            continue
        try:
            track = load_record(LandmarkTrack, marker.parent / TRACK)
            reader, reference = _FrameReader(marker.parent / FRAMES, name), int(content["reference"])
            face = load_record(FaceEmbedding, marker.parent / FACE) if (marker.parent / FACE).is_file() else None
            videos.append(VideoClip(name, reader, track, reference, _caption(marker.parent / CAPTION), face))
        except (MediaError, KeyError) as error:
            reasons.append(f"{name}: {error}")
            log.warning("%s is left out: %s", name, error)
    if not videos:
        advice = (
            "; ".join(reasons[:MAX_REASONS]) or "run `portraittalk prepare --videos FOLDER --out` this folder first"
        )
        raise InputError(f"{folder} holds no prepared video: {advice}.")
    return VideoData(videos, num_frames)


def read_list(path: Path) -> frozenset[str]:
    """Names of videos from a text file, one a line.

    Raises:
        InputError: no such file, no text, or no name in it.
    """
    text = read_text(path, "the list of clips", "give a text file with a clip's name a line", MAX_LIST_BYTES)
    names = frozenset(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise InputError(f"{path} names no clip; write one a line, as `portraittalk prepare` prints them.")
    return names


def _caption(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the caption {path} cannot be read ({error}); write it as UTF-8 text.") from error


@dataclass(frozen=True)
class _FrameReader:
    """Reads frames on demand."""

    folder: Path
    name: str

    def __call__(self, number: int) -> Tensor:
        path = next(self._files(number), None)
        if path is None:
            raise InputError(f"frame {number} of {self.name} is gone from {self.folder}; prepare the video again.")
        return load_picture(path).permute(2, 0, 1).float() / 127.5 - 1

    def _files(self, number: int) -> Iterator[Path]:
        return (path for ending in ("png", "jpg") if (path := self.folder / f"{number:06d}.{ending}").is_file())


def read_marker(folder: Path) -> dict[str, object] | None:
    """Content of a finished video's marker file; None if absent or broken."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    return None
