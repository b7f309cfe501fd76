"""Training clips of the style extractor: synthetic, or from a folder of prepared videos.

Shapes: M clips, N features at 25 Hz, A and E numbers of an audio and an expression feature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, MissingDependency
from ...media.files import files_below
from ...media.records import load_record
from ...progress import Progress
from ...speech.encoders import SpeechEncoder
from ...style.features import (
    StyleFeatures,
    audio_features,
    coefficient_features,
    expression_features,
    neutral_expression,
    resampled,
)
from ...types import LandmarkTrack, Speech
from ...weights.load import read_tensors
from ..data.expressions import EXPRESSION, VALUES
from ..data.video_clips import MARKER, SPEECH, TRACK, read_marker
from .config import SyntheticStyles

log = logging.getLogger(__name__)

MIN_VALID = 0.8  # share of a clip's frames that must show the face
MAX_REASONS = 3  # reasons in an error text
CONTENT = 6  # things that speech moves independently
STAY = 0.8  # how much of its content a frame has from the one before


@dataclass(frozen=True)
class StyleBatch:
    """Batch of clips with style labels."""

    audio: Tensor  # (M, N, A) float32
    expression: Tensor  # (M, N, E) float32
    labels: Tensor  # (M,) equal for clips of one style


class StyleData(Protocol):
    """Interface of a data set of clips with styles."""

    num_styles: int

    def fingerprint(self) -> str:
        """Fingerprint of the data set."""

    def clip(self, style: int, number: int, num_frames: int, seed: int) -> tuple[Tensor, Tensor]:
        """Audio (N, A) and expression (N, E) of a clip, a function of its arguments alone."""


def style_batch(
    data: StyleData, number: int, num_styles: int, num_clips: int, num_frames: int, seed: int
) -> StyleBatch:
    """The batch of a number: clips of several styles, a function of its arguments alone.

    Every style comes once before one comes again.

    Args:
        data: where clips come from.
        number: of the batch, from 0.
        num_styles: in the batch; all where there are fewer.
        num_clips: of each style.
        num_frames: N.
        seed: of the order and of the clips.
    """
    batch_styles = min(num_styles, data.num_styles)
    per_epoch = max(data.num_styles // batch_styles, 1)
    epoch, within = divmod(number, per_epoch)
    order = np.random.default_rng([seed, 1, epoch]).permutation(data.num_styles)
    styles = [int(style) for style in order[within * batch_styles : (within + 1) * batch_styles]]
    clips = [data.clip(style, number * num_clips + i, num_frames, seed) for style in styles for i in range(num_clips)]
    audio, expression = (torch.stack(parts) for parts in zip(*clips, strict=True))
    return StyleBatch(audio, expression, torch.tensor(styles).repeat_interleave(num_clips))


class SyntheticStyleData:
    """Synthetic styles: audio and expression follow content, with a weak offset and scale by style.

    Content moves both modalities strongly in a few directions that are common to all; the style of the face and that
    of the voice move every feature by a constant, and the size of movements, weakly. Which face style a clip has, only
    the expression tells, and which vocal style, only the sound.

    Args:
        settings: how many, how weak.
        widths: A and E.
        seed: of the styles and of content's directions; clips have their own.
    """

    def __init__(self, settings: SyntheticStyles, widths: tuple[int, int], seed: int = 0) -> None:
        self.settings, self.widths, self.seed = settings, widths, seed
        self.num_styles = settings.expression_styles * settings.vocal_styles
        counts = settings.vocal_styles, settings.expression_styles
        rng = np.random.default_rng([seed, 2])
        self._directions = [rng.normal(size=(CONTENT, width)) / CONTENT**0.5 for width in widths]
        self._marks = [settings.mark * rng.normal(size=pair) for pair in zip(counts, widths, strict=True)]
        self._sizes = [np.exp(settings.tempo * rng.normal(size=(count, 1))) for count in counts]

    def fingerprint(self) -> str:
        """Fingerprint of the data set."""
        return json.dumps([asdict(self.settings), self.widths, self.seed])

    def clip(self, style: int, number: int, num_frames: int, seed: int) -> tuple[Tensor, Tensor]:
        """Audio (N, A) and expression (N, E) of a clip."""
        rng = np.random.default_rng([seed, 3, style, number])
        face, voice = divmod(style, self.settings.vocal_styles)
        content, sides = _content(rng, num_frames), []
        for side, style_index in enumerate((voice, face)):
            width = self.widths[side]
            moved = content @ self._directions[side] * self._sizes[side][style_index] + self._marks[side][style_index]
            moved = moved + self.settings.nuisance * rng.normal(size=width) + 0.1 * rng.normal(size=(num_frames, width))
            sides.append(torch.from_numpy(moved).float())
        return sides[0], sides[1]


def _content(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """(N, 6) first-order autoregressive noise of variance 1."""
    noise = rng.normal(size=(num_frames, CONTENT))
    for frame in range(1, num_frames):
        noise[frame] = STAY * noise[frame - 1] + (1 - STAY**2) ** 0.5 * noise[frame]
    return noise


@dataclass(frozen=True)
class StyleVideo:
    """Features of one prepared video."""

    name: str  # for messages
    style: str  # equal for videos of one style
    audio: Tensor  # (T, A) at 25 Hz
    expression: Tensor  # (T, E)
    valid: Tensor  # (T,) bool: the face is tracked


class PreparedStyles:
    """Data set of prepared videos: a clip is a random window of one of the style's videos.

    Args:
        videos: all of them.
        num_frames: N of the clips; videos without that many frames that show the face are left out.

    Raises:
        InputError: fewer than two styles are left.
    """

    def __init__(self, videos: Sequence[StyleVideo], num_frames: int) -> None:
        self.num_frames = num_frames
        self._starts: dict[str, list[tuple[StyleVideo, Tensor]]] = {}
        for video in videos:
            starts = _starts(video.valid, num_frames)
            if len(starts):
                self._starts.setdefault(video.style, []).append((video, starts))
            else:
                log.warning("%s is left out: it does not show the face for %d frames", video.name, num_frames)
        self.styles = tuple(self._starts)
        self.num_styles = len(self.styles)
        if self.num_styles < 2:
            raise InputError(
                f"{len(videos)} videos give {self.num_styles} styles with clips of {num_frames} frames; two are "
                "needed. Prepare more videos, lower frames, or choose another label."
            )

    def fingerprint(self) -> str:
        """Hash of names and features."""
        digest = hashlib.sha256()
        for style, videos in self._starts.items():
            for video, _ in videos:
                digest.update(f"{style}\n{video.name}\n".encode())
                digest.update(video.audio.numpy().tobytes())
                digest.update(video.expression.numpy().tobytes())
        return digest.hexdigest()

    def clip(self, style: int, number: int, num_frames: int, seed: int) -> tuple[Tensor, Tensor]:
        """Audio (N, A) and expression (N, E) of a clip."""
        if num_frames != self.num_frames:
            raise InputError(f"these videos were read for clips of {self.num_frames} frames, not {num_frames}.")
        rng, videos = np.random.default_rng([seed, 3, style, number]), self._starts[self.styles[style]]
        video, starts = videos[rng.integers(len(videos))]
        start = int(starts[rng.integers(len(starts))])
        return video.audio[start : start + num_frames], video.expression[start : start + num_frames]


def _starts(valid: Tensor, num_frames: int) -> Tensor:
    """Start frames of all clips with enough valid frames."""
    if len(valid) < num_frames:
        return torch.zeros(0, dtype=torch.long)
    return (valid.unfold(0, num_frames, 1).float().mean(1) >= MIN_VALID).nonzero()[:, 0]


def read_styles(
    folder: Path,
    label: str,
    expression: str,
    num_frames: int,
    encoder: SpeechEncoder | None = None,
    on_progress: Progress | None = None,
) -> PreparedStyles:
    """Read the style features of videos that `portraittalk prepare` has put into a folder.

    Videos in one folder directly below (anna/happy/1.mp4: anna) are taken to show one person: their landmarks are
    measured from that person's median over all of them.

    Args:
        folder: of all.
        label: "video": each video is a style; "folder": videos in one folder are one.
        expression: kind of features, see `style.features`.
        num_frames: N, of the clips.
        encoder: Whisper tiny; None takes the log-mel spectrogram.
        on_progress: called with videos done and in all.

    Raises:
        InputError: no folder, nothing that can be used, or fewer than two styles.
    """
    folder, notify = Path(folder), on_progress or (lambda *_: None)
    reasons: list[str] = []
    tracks = prepared_tracks(folder, reasons)
    rest = _neutrals(tracks) if expression == "landmarks" else {}
    videos: list[StyleVideo] = []
    for number, (name, track) in enumerate(tracks.items()):
        notify(number, len(tracks))
        style = name if label == "video" else Path(name).parent.as_posix()
        with _noting(reasons, name):
            expression_features = _expression(folder / name, track, expression, rest.get(_person(name)), name)
            audio_features = _audio(folder / name, encoder, name)
            videos.append(_video(name, style, audio_features, expression_features, track))
    notify(len(tracks), len(tracks))
    if not videos:
        listed = (
            "; ".join(reasons[:MAX_REASONS]) or "run `portraittalk prepare --videos FOLDER --out` this folder first"
        )
        raise InputError(f"{folder} holds no prepared video to learn style from: {listed}.")
    return PreparedStyles(videos, num_frames)


@contextlib.contextmanager
def _noting(reasons: list[str], name: str) -> Iterator[None]:
    """Turn an unusable video's error into a reason."""
    try:
        yield
    except (InputError, MissingDependency) as error:
        reasons.append(f"{name}: {error}")
        log.warning("%s is left out: %s", name, error)


def prepared_tracks(folder: Path, reasons: list[str] | None = None) -> dict[str, LandmarkTrack]:
    """Landmark tracks of the prepared videos, by name.

    Args:
        folder: that `portraittalk prepare` has made.
        reasons: to which a sentence is added on each video that cannot be used.

    Raises:
        InputError: no folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the one that `portraittalk prepare` has made.")
    reasons = [] if reasons is None else reasons
    tracks: dict[str, LandmarkTrack] = {}
    for marker in files_below(folder, MARKER):
        content, name = read_marker(marker.parent), marker.parent.relative_to(folder).as_posix()
        if content and not content.get("dropped"):
            with _noting(reasons, name):
                tracks[name] = load_record(LandmarkTrack, marker.parent / TRACK)
    return tracks


def _neutrals(tracks: Mapping[str, LandmarkTrack]) -> dict[str, Tensor]:
    """(20,) neutral expression of every person."""
    people: dict[str, list[LandmarkTrack]] = {}
    for name, track in tracks.items():
        people.setdefault(_person(name), []).append(track)
    return {person: neutral_expression(person_tracks) for person, person_tracks in people.items()}


def _person(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def _expression(folder: Path, track: LandmarkTrack, feature: str, neutral: Tensor | None, name: str) -> StyleFeatures:
    if feature == "landmarks":
        return expression_features(track, neutral, name)
    return kept_expression(folder, track, feature, name)


def kept_expression(folder: Path, track: LandmarkTrack, feature: str, name: str) -> StyleFeatures:
    """Expression coefficients that lie beside a prepared video, of `prepare --face-recon` or the user's own.

    Args:
        folder: of the video.
        track: its landmarks, for the frame rate.
        feature: "3dmm" or "blendshapes".
        name: of the video, for messages.

    Raises:
        InputError: no such file, or of something else.
        MissingDependency: no such file.
    """
    path = folder / EXPRESSION
    if not path.is_file():
        raise InputError(
            f"{name} has no {EXPRESSION}, its {feature} coefficients; make it with `prepare --face-recon`."
        )
    values = read_tensors(path).get(VALUES)
    if values is None:
        raise InputError(f"{EXPRESSION} of {name} lacks {VALUES}, the {feature} coefficients of every frame.")
    return coefficient_features(values, track.fps, feature, name)


def _audio(folder: Path, encoder: SpeechEncoder | None, name: str) -> StyleFeatures:
    path = folder / SPEECH
    waveform = read_tensors(path).get("waveform") if path.is_file() else None
    if waveform is None:
        raise InputError(f"{name} was prepared without its sound; prepare it with sound.")
    return audio_features(Speech(waveform, name), encoder)


def _video(name: str, style: str, audio: StyleFeatures, expression: StyleFeatures, track: LandmarkTrack) -> StyleVideo:
    """Features of a video, cut to the shorter modality."""
    count = min(len(audio), len(expression))
    is_valid = resampled(track.valid.float()[:, None], track.fps)[:count, 0] > 0.5
    return StyleVideo(name, style, audio.values[:count], expression.values[:count], is_valid)
