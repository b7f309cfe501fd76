"""Clips of one face for the lip renderer: face crops and mel spectrograms kept on disk, landmarks in memory.

A frame's crop takes 3 · S · S bytes on disk, 49 KB at 128 pixels; they are read a few at a time.

Shapes: T frames, F of them asked for, S side of the crops, C mel columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ...cache_key import cache_key
from ...errors import InputError
from ...face.lip_points import LIP_POINTS
from ...media.files import explain_write_errors
from ...media.tensor_file import save_tensors
from ...motion.dub import fit_speech
from ...progress import Progress
from ...renderers.lip.contract import LipCropRule
from ...renderers.lip.crop import LipBoxes
from ...renderers.lip.listening import first_column
from ...speech.wav2lip_mel import CHUNK_COLUMNS, padded_length, wav2lip_mel
from ...types import LandmarkTrack, Speech
from ...weights.load import read_tensors
from ..data.video_clips import SPEECH, VideoClip

CROPS, MEL = "crops", "mel"  # in a kept file
VERSION = 1  # of what is kept


@dataclass(frozen=True)
class LipClip:
    """Frames of one face, and what is said in them."""

    name: str
    points: Tensor  # (T, 131, 2) landmarks, 0..1 of each frame's own crop
    boxes_px: Tensor  # (T, 2) width and height of the crops before they are resized
    shown: Tensor  # (T,) bool: frames whose landmarks are known
    usable: Tensor  # (T,) bool: of those, frames with a crop, which may be painted or be references
    kept: Tensor  # (T,) bool: all frames with a crop
    fps: Fraction
    path: Path  # safetensors: crops (K, 3, S, S) uint8 of the K usable frames, mel (80, C) where there is sound
    has_sound: bool
    face_frames: Tensor | None = None  # (T,) bool: of those with a crop, the aligned references; None: usable

    def crops(self, frames: Sequence[int]) -> Tensor:
        """(F, 3, S, S) uint8 crops of usable frames."""
        from safetensors import safe_open

        rows = (self.kept.cumsum(0) - 1)[list(frames)].tolist()
        with safe_open(str(self.path), framework="pt") as file:
            kept = file.get_slice(CROPS)
            return torch.cat([kept[row : row + 1] for row in rows])

    def heard(self, frame: int) -> Tensor:
        """(80, 16) mel chunk of a frame."""
        from safetensors import safe_open

        first = first_column(frame, self.fps)
        with safe_open(str(self.path), framework="pt") as file:
            return file.get_slice(MEL)[:, first : first + CHUNK_COLUMNS]


def keep_clip(
    folder: Path,
    name: str,
    track: LandmarkTrack,
    rule: LipCropRule,
    pictures: Callable[[Sequence[int]], Iterable[Tensor]],
    speech: Callable[[], Speech | None],
    *,
    mark: object,
    usable: Tensor | None = None,
) -> LipClip:
    """A clip whose crops and sound are kept; they are made where they are not there.

    Args:
        folder: for the files; must be there.
        name: of the clip.
        track: its landmarks.
        rule: how faces are framed.
        pictures: (H, W, 3) uint8 of frames whose numbers rise.
        speech: what is said; None: there is no sound.
        mark: what else the pictures and the sound depend on.
        usable: (T,) bool: frames whose crops are wanted; None: all.

    Raises:
        OutputError: the file cannot be written.
    """
    boxes = LipBoxes(track, rule)
    kept = track.valid & boxes.usable & (True if usable is None else usable)
    points = hashlib.sha256(track.points.contiguous().numpy().tobytes() + kept.numpy().tobytes()).hexdigest()
    digest = cache_key([VERSION, name, points, str(track.fps), asdict(rule), mark])
    path = folder / f"{digest[:32]}.safetensors"
    if not path.is_file():
        _make(path, track, boxes, kept, pictures, speech())
    numbers = range(len(track))
    points = torch.stack([boxes.points01(at, track.points[at, list(LIP_POINTS)]) for at in numbers])
    sizes = torch.tensor([boxes[at].size_px for at in numbers])
    return LipClip(name, points, sizes, track.valid & boxes.usable, kept, kept, track.fps, path, MEL in _names(path))


def _names(path: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return set(file.keys())


def _make(  # noqa: PLR0913 - one parameter a part
    path: Path,
    track: LandmarkTrack,
    boxes: LipBoxes,
    kept: Tensor,
    pictures: Callable[[Sequence[int]], Iterable[Tensor]],
    speech: Speech | None,
) -> None:
    numbers, side = torch.nonzero(kept).flatten().tolist(), boxes.rule.size
    crops = torch.empty(len(numbers), 3, side, side, dtype=torch.uint8)
    for row, (number, picture) in enumerate(zip(numbers, pictures(numbers), strict=True)):
        crops[row] = (boxes[number].take(picture, side) * 255).round().byte()
    tensors = {CROPS: crops}
    if speech is not None and speech.waveform.numel():
        fitted = fit_speech(speech, len(track), track.fps).speech.waveform
        length = padded_length(fitted.numel())
        padded = torch.nn.functional.pad(fitted, (0, length - fitted.numel()))
        tensors[MEL] = wav2lip_mel(Speech(padded, speech.source))
    save_tensors(tensors, path)


def read_lip_clips(
    folder: Path,
    videos: Sequence[VideoClip],
    rule: LipCropRule,
    keep: Path,
    needs_sound: bool = True,
    on_progress: Progress | None = None,
) -> tuple[list[LipClip], tuple[tuple[str, str], ...]]:
    """Prepared videos as clips, and name and reason of those that cannot be used.

    Args:
        folder: that they were prepared into.
        videos: of the data.
        rule: how faces are framed.
        keep: folder for crops and sound; made if absent.
        needs_sound: whether a silent video is of no use.
        on_progress: called with videos done and in all; may raise to stop.

    Raises:
        InputError: none can be used.
        OutputError: the files cannot be written.
    """
    notify, kept, dropped = on_progress or (lambda *_: None), [], []
    with explain_write_errors(keep):
        keep.mkdir(parents=True, exist_ok=True)
    for done, video in enumerate(videos):
        notify(done, len(videos))
        sound = folder / video.name / SPEECH
        if needs_sound and not sound.is_file():
            dropped.append((video.name, "it has no sound, which this training needs"))
            continue
        state = sound.stat() if sound.is_file() else None
        mark = None if state is None else [state.st_size, state.st_mtime_ns]
        clip = keep_clip(
            keep, video.name, video.track, rule, _pictures_of(video), lambda sound=sound: _speech_of(sound), mark=mark
        )
        if needs_sound and not clip.has_sound:
            dropped.append((video.name, "its sound is empty, which this training needs"))
        else:
            kept.append(clip)
    notify(len(videos), len(videos))
    if not kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in dropped[:3])
        raise InputError(f"none of the {len(videos)} prepared videos can be used. {reasons}.")
    return kept, tuple(dropped)


def _pictures_of(video: VideoClip) -> Callable[[Sequence[int]], Iterable[Tensor]]:
    def pictures(numbers: Sequence[int]) -> Iterable[Tensor]:
        return (((video.read(at) + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0) for at in numbers)

    return pictures


def _speech_of(path: Path) -> Speech | None:
    waveform = read_tensors(path).get("waveform") if path.is_file() else None
    return None if waveform is None else Speech(waveform, path.parent.name)
