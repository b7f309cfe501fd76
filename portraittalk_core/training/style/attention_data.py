"""Training clips of style attention: prepared videos with styles and reference frames of the person.

Shapes: B clips, V videos, D numbers of a style.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, NoFaceError
from ...progress import Progress
from ...speech.encoders import SpeechEncoder, load_speech_encoder
from ...style.extractor import StyleExtractor, load_extractor
from ...style.features import MEASURED_EXPRESSION, WHISPER, StyleFeatures
from ...style.options import StyleUse
from ...style.prior import StylePrior
from ...style.reference import Reference, style_of
from ...types import Speech
from ...weights.load import read_tensors
from ..data.video_clips import SPEECH, ClipBatch, VideoClip, VideoData
from .config import StyleAttentionTraining
from .data import kept_expression
from .reference_frames import ReferenceFrames

MIN_SCALE = 1e-3  # of the largest deviation: what a style's numbers are divided by at least


class FaceDescriber(Protocol):
    """Computes the embedding of the largest face of a picture."""

    def __call__(self, picture: Tensor) -> Tensor:
        """(512,) of (3, S, S) in −1..1."""


@dataclass(frozen=True)
class StyledBatch:
    """Batch of clips with styles and references."""

    clips: ClipBatch
    means: Tensor  # (B, D) of the styles of their videos
    deviations: Tensor  # (B, D) that styles are drawn with
    face_embeds: Tensor | None = None  # (B, 512) of another frame of the person
    references: Tensor | None = None  # (B, 3, S, S) in −1..1, another frame of the person


class StyledVideos:
    """Data set of prepared videos with styles.

    Args:
        data: the videos.
        priors: the style of each, all of one space.
        describe: looks at reference faces; None gives no embeddings.
        other_video: share of references that come from another video of the person, where there is one.

    Raises:
        InputError: not one style for each video, or styles of several spaces.
    """

    def __init__(
        self,
        data: VideoData,
        priors: Sequence[StylePrior],
        describe: FaceDescriber | None = None,
        other_video: float = 0.5,
    ) -> None:
        if len(priors) != len(data.videos):
            raise InputError(f"{len(data.videos)} videos need as many styles, not {len(priors)}.")
        spaces = {(prior.space, len(prior)) for prior in priors}
        if len(spaces) != 1:
            raise InputError(f"the videos' styles live in {len(spaces)} spaces; make all with the same extractor.")
        self.data, self.priors, self.describe, self.other_video = data, tuple(priors), describe, other_video
        ((self.space, self.width),) = spaces
        self._means = torch.stack([prior.mean for prior in priors])
        self._deviations = torch.stack([prior.sampling_std for prior in priors])
        self._embeds: dict[tuple[int, int], Tensor] = {}
        self._frames = ReferenceFrames(data, other_video)

    @property
    def centre(self) -> Tensor:
        """(D,) mean of the videos' styles."""
        return self._means.mean(0)

    @property
    def scale(self) -> Tensor:
        """(D,) spread of each number of a style between people, above 0."""
        spread = self.priors[0].spread
        return spread.clamp(min=MIN_SCALE * float(spread.max()) or 1.0)

    def fingerprint(self) -> str:
        """Hash of the videos and their styles."""
        digest = hashlib.sha256(self.data.fingerprint().encode())
        for tensor in (self._means, self._deviations):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batch(self, number: int, size: int, seed: int, side_px: int, references: bool = False) -> StyledBatch:
        """The batch of a number, a function of its arguments alone.

        Args:
            number: of the batch, from 0.
            size: clips in it.
            seed: of the order.
            side_px: S.
            references: whether to show the other frames too.
        """
        clips = self.data.batch(number, size, seed, side_px)
        videos = list(clips.videos)
        faces = pictures = None
        if references or self.describe is not None:
            rng = np.random.default_rng([seed, 4, number])
            places = [self.reference(*pair, rng) for pair in zip(clips.videos, clips.starts, strict=True)]
            if self.describe is not None:
                faces = torch.stack([self._embed(place, side_px) for place in places])
            if references:
                pictures = torch.stack([self._picture(place, side_px) for place in places])
        return StyledBatch(clips, self._means[videos], self._deviations[videos], faces, pictures)

    def reference(self, video: int, start: int, rng: np.random.Generator) -> tuple[int, int]:
        """Video and frame of a reference: the same person at another time, or in another video."""
        return self._frames.place(video, start, rng)

    def _embed(self, place: tuple[int, int], side_px: int) -> Tensor:
        if place not in self._embeds:
            self._embeds[place] = self.describe(self._picture(place, side_px))
        return self._embeds[place]

    def _picture(self, place: tuple[int, int], side_px: int) -> Tensor:
        return self._frames.picture(place, side_px)


def read_priors(
    folder: Path,
    data: VideoData,
    noise: float,
    extractor: StyleExtractor | None = None,
    encoder: SpeechEncoder | None = None,
    on_progress: Progress | None = None,
) -> tuple[VideoData, list[StylePrior]]:
    """Estimate the style of every video; returns the videos that have one, and their styles.

    Args:
        folder: that the videos were prepared into.
        data: the videos.
        noise: the least deviation, in spreads.
        extractor: None measures the motion.
        encoder: Whisper tiny, for an extractor that hears by it.
        on_progress: called with videos done and in all.

    Raises:
        InputError: none of the videos shows a style.
    """
    notify, videos, priors, reasons = on_progress or (lambda *_: None), [], [], []
    for number, video in enumerate(data.videos):
        notify(number, len(data.videos))
        sounds = sounds_of(folder, video.name) if extractor is not None else ()
        try:
            reference = Reference((video.track,), sounds, video.name, _expressions(folder, video, extractor))
            prior = style_of(reference, StyleUse(noise=noise), extractor, encoder)
        except (InputError, NoFaceError) as error:
            reasons.append(f"{video.name}: {error}")
            continue
        videos.append(video)
        priors.append(dataclasses.replace(prior, style_statistics=None))
    notify(len(data.videos), len(data.videos))
    if not videos:
        raise InputError(f"none of the {len(data.videos)} videos shows a style: {'; '.join(reasons[:3])}.")
    return VideoData(videos, data.num_frames), priors


def _expressions(folder: Path, video: VideoClip, extractor: StyleExtractor | None) -> tuple[StyleFeatures, ...]:
    """Coefficients beside a prepared video, for an extractor that looks at them."""
    if extractor is None or extractor.sizes.expression == MEASURED_EXPRESSION:
        return ()
    return (kept_expression(Path(folder) / video.name, video.track, extractor.sizes.expression, video.name),)


def sounds_of(folder: Path, name: str) -> tuple[Speech, ...]:
    """Speech of a prepared video; empty without sound."""
    path = folder / name / SPEECH
    waveform = read_tensors(path).get("waveform") if path.is_file() else None
    return () if waveform is None else (Speech(waveform, name),)


def read_styled(
    config: StyleAttentionTraining,
    videos: VideoData,
    describe: FaceDescriber | None = None,
    on_progress: Progress | None = None,
) -> StyledVideos:
    """Read the videos with their styles as configured; videos without a style are left out.

    Args:
        config: of the training.
        videos: from `config.data`.
        describe: looks at reference faces.
        on_progress: called with videos done and in all.

    Raises:
        InputError: the extractor cannot be used, or none of the videos shows a style.
    """
    extractor = None if config.extractor is None else load_extractor(config.extractor)
    hears = extractor is not None and extractor.sizes.audio == WHISPER
    if hears and config.audio_encoder is None:
        raise InputError(f"{extractor.name} hears by Whisper tiny; give audio_encoder, openai/whisper-tiny's file.")
    encoder = load_speech_encoder(config.audio_encoder) if hears else None
    videos, priors = read_priors(config.data, videos, config.noise, extractor, encoder, on_progress)
    return StyledVideos(videos, priors, describe, config.other_video)
