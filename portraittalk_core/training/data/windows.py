"""Windows of prepared videos for lip sync: frames, mouth boxes, and the speech that belongs to them or does not.

Shapes: B windows, F = 5 frames of a window, N rows of speech, D channels, S side of the pictures in pixels.
Source: ControlTalk, section 3.4 and its public code's windows; Wav2Lip for the wrong speech.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .order import example_at
from .speech_rows import SpeechRows
from .video_clips import ClipBatch, VideoClip, VideoData

NUM_FRAMES = 5


@dataclass(frozen=True)
class WindowBatch:
    """Batch of windows."""

    clips: ClipBatch  # the frames
    rows: Tensor  # (B, N, D) of the speech of each window's first frame, or of another time
    in_sync: Tensor  # (B,) bool, False where the speech is of another time
    starts: tuple[int, ...]  # frame whose speech `rows` are

    @property
    def frames(self) -> Tensor:
        """(B, F, 3, S, S) in 0..1."""
        return (self.clips.frames + 1) / 2


class SyncWindows:
    """Windows of videos with speech.

    Args:
        videos: with sound, each of one face.
        rows: their speech.

    Raises:
        InputError: none shows the face in five frames one after another.
    """

    def __init__(self, videos: Sequence[VideoClip], rows: SpeechRows) -> None:
        self.data, self.rows = VideoData(videos, NUM_FRAMES), rows

    def __len__(self) -> int:
        return len(self.data)

    def fingerprint(self) -> str:
        """Hash of the videos and of the speech."""
        return hashlib.sha256(f"{self.data.fingerprint()}{self.rows.mark}".encode()).hexdigest()

    def batch(self, number: int, size: int, seed: int, side_px: int, wrong: float) -> WindowBatch:
        """The batch of a number, a function of its arguments alone.

        Args:
            number: of the batch, from 0.
            size: B.
            seed: of all choices.
            side_px: S.
            wrong: share of windows with speech of another time of the same clip.
        """
        places = range(number * size, (number + 1) * size)
        clips = [self.data.clip_at(example_at(place, len(self), seed)) for place in places]
        draw = np.random.default_rng([seed, 3, number])
        right = draw.random(size) >= wrong
        starts = [
            start if stays else self._other(video, start, draw)
            for (video, start), stays in zip(clips, right.tolist(), strict=True)
        ]
        in_sync = torch.tensor([at == start for at, (_, start) in zip(starts, clips, strict=True)])
        rows = torch.cat([self.rows.windows(video, [at]) for (video, _), at in zip(clips, starts, strict=True)])
        return WindowBatch(self.data.at(clips, side_px), rows, in_sync, tuple(starts))

    def _other(self, video: int, start: int, draw: np.random.Generator) -> int:
        """Another frame of the same clip."""
        count = len(self.data.videos[video].track) - NUM_FRAMES + 1
        return (start + int(draw.integers(1, count))) % count if count > 1 else start
