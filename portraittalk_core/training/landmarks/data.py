"""Windows of prepared videos for the landmark generator: five frames, their speech, and other faces of the clip.

All landmarks and mel spectrograms are held in memory, about 190 MB for an hour of clips.

Shapes: B windows, F = 5 frames of a window, R = 15 references, C mel columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...engines.landmark_generator.crops import NUM_REFERENCES, face_crops, unit_points
from ...engines.landmark_generator.network import WINDOW
from ...errors import InputError
from ...face.lip_points import CONTENT, LIP_POINTS, POSE
from ...speech.wav2lip_mel import (
    CHUNK_COLUMNS,
    CHUNK_LEAD,
    CHUNK_RATE,
    COLUMN_RATE_HZ,
    padded_length,
    wav2lip_mel,
)
from ...types import LandmarkTrack, Speech
from ...weights.load import read_tensors
from ..data.order import example_at
from ..data.video_clips import SPEECH, VideoClip

MIN_FRAMES = WINDOW + NUM_REFERENCES  # that show the face, of a clip
REFERENCE_CHANCE = 4  # marks the random numbers that choose references


@dataclass(frozen=True)
class LandmarkBatch:
    """Batch of windows; points lie in the unit square of each frame's own crop."""

    sound: Tensor  # (B, 5, 80, 16) mel chunks
    pose: Tensor  # (B, 5, 74, 2)
    content: Tensor  # (B, 5, 57, 2) what is to be predicted
    references: Tensor  # (B, 15, 131, 2) faces of the same clip, outside the window

    def to(self, device: torch.device) -> LandmarkBatch:
        """On a device."""
        return LandmarkBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


@dataclass(frozen=True)
class SpokenClip:
    """A prepared video with speech."""

    name: str
    points: Tensor  # (T, 131, 2) in the unit square of each frame's own crop
    valid: Tensor  # (T,) bool
    mel: Tensor  # (80, C)

    @staticmethod
    def of(name: str, track: LandmarkTrack, speech: Speech, crop_pad: float) -> SpokenClip:
        """The clip of a track and its speech, which silence follows."""
        points = unit_points(track, face_crops(track, crop_pad), LIP_POINTS, torch.arange(len(track)))
        length = max(padded_length(speech.waveform.numel()), padded_length(int(track.seconds * speech.sample_rate)))
        waveform = torch.nn.functional.pad(speech.waveform, (0, length - speech.waveform.numel()))
        return SpokenClip(name, points, track.valid, wav2lip_mel(Speech(waveform, speech.source)))

    def chunk(self, frame: int) -> Tensor:
        """(80, 16) that a frame hears."""
        first = max(0, frame - CHUNK_LEAD) * COLUMN_RATE_HZ // int(CHUNK_RATE)
        return self.mel[:, first : first + CHUNK_COLUMNS]


class LandmarkWindows:
    """Windows of clips.

    Args:
        clips: to learn from.

    Raises:
        InputError: none has a window of frames that show the face, and frames beside it for references.
    """

    def __init__(self, clips: Sequence[SpokenClip]) -> None:
        self.clips = tuple(clips)
        starts = [clip.valid.unfold(0, WINDOW, 1).all(1).nonzero()[:, 0].tolist() for clip in self.clips]
        self._windows = [(number, start) for number, own in enumerate(starts) for start in own]
        if not self._windows:
            raise InputError(
                f"none of the {len(self.clips)} clips shows the face in {WINDOW} frames one after another; prepare "
                "longer ones."
            )

    def __len__(self) -> int:
        """Number of (overlapping) windows."""
        return len(self._windows)

    def fingerprint(self) -> str:
        """Hash of all clips."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(clip.name.encode())
            for part in (clip.points, clip.valid, clip.mel):
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batch(self, number: int, size: int, seed: int) -> LandmarkBatch:
        """The batch of a number, a function of its arguments alone; every window comes once before one comes again.

        Args:
            number: of the batch, from 0.
            size: B.
            seed: of the order, and of the choice of references.
        """
        places = range(number * size, (number + 1) * size)
        parts = [self._window(*self._windows[example_at(place, len(self), seed)], place, seed) for place in places]
        return LandmarkBatch(*(torch.stack(part) for part in zip(*parts, strict=True)))

    def _window(self, number: int, start: int, place: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        clip, stop = self.clips[number], start + WINDOW
        outside = torch.nonzero(clip.valid).flatten()
        outside = outside[(outside < start) | (outside >= stop)].numpy()
        draw = np.random.default_rng([seed, REFERENCE_CHANCE, place])
        references = torch.from_numpy(draw.choice(outside, NUM_REFERENCES, replace=False))
        window = clip.points[start:stop]
        sound = torch.stack([clip.chunk(frame) for frame in range(start, stop)])
        return sound, window[:, POSE], window[:, CONTENT], clip.points[references]


def read_clips(
    folder: Path, videos: Sequence[VideoClip], crop_pad: float
) -> tuple[list[SpokenClip], tuple[tuple[str, str], ...]]:
    """The prepared videos that can be learnt from, and name and reason of all others.

    Args:
        folder: that they were prepared into.
        videos: of the data.
        crop_pad: see `LandmarkTraining`.

    Raises:
        InputError: none can be used.
    """
    usable_clips, dropped = [], []
    for video in videos:
        sound = folder / video.name / SPEECH
        waveform = read_tensors(sound).get("waveform") if sound.is_file() else None
        num_seen = int(video.track.valid.sum())
        if waveform is None or not len(waveform):
            dropped.append((video.name, "it has no sound, which this training needs"))
        elif video.track.fps != CHUNK_RATE:
            rate = f"{float(video.track.fps):g}"
            dropped.append((video.name, f"it was prepared at {rate} frames a second; prepare it with --fps 25"))
        elif num_seen < MIN_FRAMES:
            dropped.append((video.name, f"its face is seen in {num_seen} frames; {MIN_FRAMES} are needed"))
        else:
            usable_clips.append(SpokenClip.of(video.name, video.track, Speech(waveform, video.name), crop_pad))
    if not usable_clips:
        reasons = "; ".join(f"{name}: {why}" for name, why in dropped[:3])
        raise InputError(f"none of the {len(videos)} prepared videos can be used. {reasons}.")
    return usable_clips, tuple(dropped)
