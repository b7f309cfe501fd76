"""Speech features around the frames of prepared videos, for an audio projection that is to be trained.

Shapes: F frames of a clip, T of a video, D numbers of a feature.
Source: V-Express (Wang et al. 2024), section 3.3: two features a frame, and those of two frames on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...progress import Progress
from ...renderers.vexpress.audio_projection import FEATURES, PER_FRAME, features_around
from ...renderers.vexpress.pipeline import check_family
from ...speech.encoders import SpeechEncoder
from ...types import LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .kept_speech import KeptFiles, keep_videos, kept_file, weights_digest

AROUND = "around"  # tensor name in a file: (T, 10, D) would hold each feature five times, so it is (2 · T + 8, D)


class ClipFeatures(Protocol):
    """Interface of the speech features of videos' frames."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 10, D) features around frames start..stop-1 of a video, by its number in the data."""

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the encoder."""


class FeatureFiles(KeptFiles):
    """Kept features of videos."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 10, D) features around frames start..stop-1 of a video."""
        rows = self._rows(video, AROUND, slice(PER_FRAME * start, PER_FRAME * (stop - 1) + FEATURES))
        return rows.unfold(0, FEATURES, PER_FRAME).transpose(1, 2)


@dataclass(frozen=True)
class FeatureKeeper:
    """Computes the features of a video's whole speech once, and keeps them in a folder: 6 KB a frame."""

    encoder: SpeechEncoder
    folder: Path

    def __post_init__(self) -> None:
        check_family(self.encoder.name)

    def mark(self) -> bytes:
        """Hash of the encoder's weights."""
        return weights_digest(self.encoder.network, start=b"features around frames")

    def keep(self, speech: Speech, track: LandmarkTrack, mark: bytes, tick: Callable[[], None]) -> Path:
        """The file with the features of a video's frames; arguments and errors as of `kept_file`."""

        def compute(fitted: Speech) -> dict[str, Tensor]:
            values = self.encoder.encode(fitted, lambda *_: tick()).values
            around = features_around(values.float().cpu(), len(track))
            return {AROUND: torch.cat([around[:, :PER_FRAME].flatten(0, 1), around[-1, PER_FRAME:]]).contiguous()}

        return kept_file(self.folder, mark, speech, track, compute)


def keep_features(
    folder: Path, data: VideoData, keeper: FeatureKeeper, on_progress: Progress | None = None
) -> tuple[VideoData, FeatureFiles, tuple[tuple[str, str], ...]]:
    """Compute the features of all videos; arguments, drops and errors as of `keep_videos`."""
    mark = keeper.mark()
    videos, paths, dropped = keep_videos(
        folder, data, lambda speech, track, tick: keeper.keep(speech, track, mark, tick), "the audio layers are",
        "prepare videos in which somebody speaks", on_progress,
    )  # fmt: skip
    return videos, FeatureFiles(paths), dropped
