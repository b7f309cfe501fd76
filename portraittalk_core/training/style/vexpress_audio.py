"""Audio tokens of prepared videos for V-Express's training, computed once and cached on disk.

Shapes: F frames of a clip, T of a video, C channels of the audio tokens.
Source: V-Express (Wang et al. 2024), section 3.3; `docs/design/vexpress.md` 1, 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...progress import Progress
from ...renderers.vexpress.audio_projection import AudioProjection, audio_tokens
from ...renderers.vexpress.pipeline import check_family
from ...speech.encoders import SpeechEncoder, require_width
from ...types import LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .kept_speech import KeptFiles, keep_videos, kept_file, weights_digest

TOKENS = "tokens"  # tensor name in a file


class AudioTokens(Protocol):
    """Interface of the audio tokens of videos' frames."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 5, C) audio tokens of frames start..stop-1 of a video, by its number in the data."""

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the networks that encode them."""


class TokenFiles(KeptFiles):
    """Cached audio tokens of videos on disk."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 5, C) audio tokens of frames start..stop-1 of a video."""
        return self._rows(video, TOKENS, slice(start, stop))


@dataclass(frozen=True)
class Listener:
    """Computes the audio tokens of a video's whole speech once, and caches them in a folder.

    They take 15 KB a frame, a twentieth of what the frame's picture does.
    """

    encoder: SpeechEncoder
    projection: AudioProjection
    folder: Path

    def __post_init__(self) -> None:
        check_family(self.encoder.name)

    def mark(self) -> bytes:
        """Hash of the networks' weights."""
        return weights_digest(self.encoder.network, self.projection)

    def hear(self, speech: Speech, track: LandmarkTrack, mark: bytes, tick: Callable[[], None]) -> Path:
        """The cached file with the tokens (T, 5, C) of a video's frames; arguments as of `kept_file`.

        Raises:
            InputError: an encoder of another width.
            OutputError: the file cannot be written.
        """

        def compute(fitted: Speech) -> dict[str, Tensor]:
            features = self.encoder.encode(fitted, lambda *_: tick())
            values = require_width(features, self.projection.sizes.features, "V-Express")
            return {TOKENS: audio_tokens(self.projection, values, len(track))}

        return kept_file(self.folder, mark, speech, track, compute)


def hear_videos(
    folder: Path, data: VideoData, listener: Listener, on_progress: Progress | None = None
) -> tuple[VideoData, dict[str, Path], tuple[tuple[str, str], ...]]:
    """Compute the audio tokens of all videos; arguments and drops as of `keep_videos`.

    Returns:
        Those with sound, the file of each one's tokens by its name, and the others' names with the reasons.

    Raises:
        InputError: none has sound, or the encoder does not fit.
    """
    mark = listener.mark()
    videos, paths, dropped = keep_videos(
        folder, data, lambda speech, track, tick: listener.hear(speech, track, mark, tick), "V-Express is",
        "prepare videos in which somebody speaks, or leave vexpress out", on_progress,
    )  # fmt: skip
    return videos, {video.name: path for video, path in zip(videos.videos, paths, strict=True)}, dropped
