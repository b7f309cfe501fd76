"""Styles from reference videos, recordings and presets, and motion generated in a style.

Shapes: T frames, W windows.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import InputError, NoFaceError
from ..face.choice import FaceChoice
from ..face.mesh.landmarks import MeshBackend, open_mesh, track_faces
from ..motion.options import MotionOptions
from ..progress import Progress
from ..speech.encoders import SpeechEncoder
from ..types import SPEECH_RATE_HZ, LandmarkTrack, Speech, StyleStatistics
from .expression_source import KNOWN, ExpressionRecorder
from .extractor import StyleExtractor
from .features import (
    MEASURED_EXPRESSION,
    MIN_SECONDS,
    MIN_VALID_SHARE,
    RATE_HZ,
    StyleFeatures,
    audio_features,
    expression_features,
    expression_numbers,
    resampled,
)
from .options import StyleUse
from .presets import preset
from .prior import STATISTICS_SPACE, BlendedStyle, Style, StylePrior
from .statistics import measure_statistics, to_numbers, to_statistics

PIECE_S = Fraction(256, 25)  # window of an extractor
MAX_PIECES = 8  # of a long video; they are spread evenly over it
# how much people differ, in the order of types.STYLE_STATISTICS: what the noise of a style is measured by
STATISTICS_SPREAD = (0.08, 0.03, 0.025, 0.03, 0.03, 12.0, 0.04, 1.5, 0.1, 0.07, 0.02)


@dataclass(frozen=True)
class Reference:
    """Reference of a style: landmark tracks of pieces of a video, its speech, or both."""

    tracks: tuple[LandmarkTrack, ...] = ()  # some frames may lack a face
    sounds: tuple[Speech, ...] = ()  # of the same pieces; or all of a recording
    source: str = "the reference"
    expressions: tuple[StyleFeatures, ...] = ()  # of the same pieces, of `style.expression_source`; or of a clip alone

    def __post_init__(self) -> None:
        if not self.tracks and not self.sounds and not self.expressions:
            raise InputError("a style needs a reference: a video with a face, a sound, or both; connect one.")


@dataclass(frozen=True)
class ReferenceOptions:
    """Face selection and number of pieces for tracking a reference video."""

    face_index: int | FaceChoice = 0  # which of several faces, or what chooses it
    face_order: str = "size"
    pieces: int = field(default=MAX_PIECES)  # at most

    def __post_init__(self) -> None:
        check_range(self.pieces, 1, 1000, "the number of pieces")


def track_pieces(
    pictures: Iterable[Tensor],
    fps: Fraction,
    num_frames: int,
    mesh: MeshBackend | None = None,
    options: ReferenceOptions | None = None,
    source: str = "the reference",
    recorder: ExpressionRecorder | None = None,
) -> list[tuple[int, LandmarkTrack]]:
    """Track the face of a reference video: all of a short one, evenly spread pieces of ten seconds of a long one.

    Args:
        pictures: (H, W, 3) uint8, all of one size; none is kept.
        fps: frames per second of the pictures.
        num_frames: how many they are, about.
        mesh: an open back end; None opens one for this call.
        options: which face, and how many pieces.
        source: what to call the video in messages.
        recorder: measures the expressions of each piece returned, by its first frame's number.

    Returns:
        Number of the first frame and landmarks of each piece that shows the face.

    Raises:
        InputError: shorter than a second.
        NoFaceError: the face is in no piece, or in less than half of the frames that were looked at.
    """
    options = options or ReferenceOptions()
    if mesh is None:
        with open_mesh() as opened:
            return track_pieces(pictures, fps, num_frames, opened, options, source, recorder)
    size = math.ceil(PIECE_S * fps)
    pieces = [(0, None)]
    if num_frames > options.pieces * size:
        step = (num_frames - size) / max(options.pieces - 1, 1)
        pieces = [(round(i * step), size) for i in range(options.pieces)]
    tracked, num_read, pictures, next_frame = [], 0, iter(pictures), 0
    for start, length in pieces:
        piece = itertools.islice(pictures, start - next_frame, None if length is None else start - next_frame + length)
        counter = itertools.count()
        counted = (picture for picture, _ in zip(piece, counter, strict=False))
        see = None if recorder is None else recorder.begin(start)
        with contextlib.suppress(NoFaceError):  # it may be in other pieces
            face = options.face_index, options.face_order
            tracked.append((start, track_faces(counted, fps, mesh, *face, on_face=see)))
        num_in_piece = next(counter)
        num_read, next_frame = num_read + num_in_piece, start + num_in_piece
    return _checked(tracked, num_read, fps, source)


def _checked(
    tracked: list[tuple[int, LandmarkTrack]], num_read: int, fps: Fraction, source: str
) -> list[tuple[int, LandmarkTrack]]:
    if num_read < MIN_SECONDS * fps:
        raise InputError(f"{source} lasts {float(num_read / fps):.2f} s; a style needs {MIN_SECONDS:.0f} s at least.")
    valid = sum(int(track.valid.sum()) for _, track in tracked)
    if valid < MIN_VALID_SHARE * num_read:
        raise NoFaceError(
            f"{source} shows the face in {valid} of the {num_read} frames that were looked at; a style needs it in "
            "most of them: choose another video, another part of it, or another face."
        )
    return [(start, track) for start, track in tracked if track.seconds >= MIN_SECONDS and track.valid.any()]


def speech_pieces(speech: Speech, pieces: list[tuple[int, LandmarkTrack]]) -> tuple[Speech, ...]:
    """Speech of each piece, padded with silence where the recording has ended."""
    parts = []
    for start, track in pieces:
        first = round(start / track.fps * SPEECH_RATE_HZ)
        count = math.ceil(len(track) / track.fps * SPEECH_RATE_HZ)
        part = speech.waveform[first : first + count]
        parts.append(Speech(torch.nn.functional.pad(part, (0, count - len(part))), speech.source))
    return tuple(parts)


def style_of(
    reference: Reference,
    use: StyleUse | None = None,
    extractor: StyleExtractor | None = None,
    encoder: SpeechEncoder | None = None,
    on_progress: Progress | None = None,
) -> StylePrior:
    """Style prior of a reference: from the extractor, with motion statistics where there is a track.

    Args:
        reference: what is known of the person.
        use: strength, noise and seed.
        extractor: a trained one; None measures the motion alone, which needs no weights.
        encoder: Whisper tiny for an extractor that hears by it.
        on_progress: called by the extractor with windows done and in all.

    Raises:
        InputError: neither a face nor an extractor that can go by the sound alone; or the extractor needs an encoder.
    """
    use = use or StyleUse()
    style_statistics = statistics_prior(reference, use) if reference.tracks else None
    if extractor is None:
        if style_statistics is None:
            raise InputError(
                f"{reference.source} has no picture; without a trained extractor a style is seen, not heard: connect a "
                "video with a face, or choose an extractor."
            )
        return style_statistics
    audio = _audio(reference, extractor, encoder)
    expression = _expression(reference, extractor)
    prior = extractor.prior(audio, expression, reference.source, on_progress)
    return replace(prior, strength=use.strength, noise=use.noise, seed=use.seed, style_statistics=style_statistics)


def statistics_prior(reference: Reference, use: StyleUse | None = None) -> StylePrior:
    """Style prior of motion statistics: mean and deviation over the windows of all pieces."""
    use = use or StyleUse()
    windows = torch.cat([measure_statistics(track) for track in reference.tracks])
    std, spread = windows.std(0, correction=0), torch.tensor(STATISTICS_SPREAD)
    return StylePrior(
        windows.mean(0), std, spread, STATISTICS_SPACE, reference.source, use.strength, use.noise, use.seed
    )


def named_style(name: str, use: StyleUse | None = None) -> StylePrior:
    """Style prior of a preset in `style.presets`."""
    use, numbers = use or StyleUse(), to_numbers(preset(name))
    spread = torch.tensor(STATISTICS_SPREAD)
    return StylePrior(
        numbers, torch.zeros_like(numbers), spread, STATISTICS_SPACE, name, use.strength, use.noise, use.seed
    )


def statistics_of(style: StylePrior) -> StyleStatistics:
    """Style statistics for a motion engine: one sample of the style's motion statistics.

    Raises:
        InputError: it has none.
    """
    part = style.statistics_part
    if part is None:
        raise InputError(
            f"the style {style.source} knows no motion: it was made from sound alone; make it from a video with a face."
        )
    return to_statistics(part.sample(style.seed), style.strength)


def in_style(
    make: Callable[[MotionOptions], LandmarkTrack], options: MotionOptions, style: Style | None
) -> LandmarkTrack:
    """Generate motion in a style.

    Args:
        make: makes the landmarks for some options.
        options: without a style_statistics.
        style: None for the engine's own; of one that changes over time both ends are made, and mixed frame by frame.
    """
    if style is None or style.strength == 0:
        return make(options)
    if not isinstance(style, BlendedStyle):
        return make(replace(options, style_statistics=statistics_of(style)))
    first, second = (make(replace(options, style_statistics=statistics_of(end))) for end in (style.first, style.second))
    shares = style.shares(len(first), first.fps)[:, None, None]
    return replace(first, points=torch.lerp(first.points, second.points, shares))


def _audio(reference: Reference, extractor: StyleExtractor, encoder: SpeechEncoder | None) -> StyleFeatures | None:
    if not extractor.hears:
        return None
    sounds = [sound for sound in reference.sounds if float(sound.waveform.abs().max()) > 0]
    if len(sounds) < len(reference.sounds) or not sounds:
        return None  # a piece without sound has no features: the picture alone must do
    if extractor.sizes.audio == "whisper-tiny" and encoder is None:
        raise InputError(
            f"{extractor.name} hears by Whisper tiny: put openai/whisper-tiny into models/audio_encoders and choose "
            "it, or leave the sound out."
        )
    parts = [audio_features(sound, encoder if extractor.sizes.audio == "whisper-tiny" else None) for sound in sounds]
    return StyleFeatures(torch.cat([part.values for part in parts]), parts[0].feature, reference.source)


def _expression(reference: Reference, extractor: StyleExtractor) -> StyleFeatures | None:
    kind = extractor.sizes.expression
    if kind != MEASURED_EXPRESSION:
        return _given_expression(reference, extractor)
    if not reference.tracks:
        return None
    numbers = torch.cat([expression_numbers(track)[track.valid] for track in reference.tracks])
    rest = numbers.median(0).values
    parts = [expression_features(track, rest, reference.source).values for track in reference.tracks]
    if not extractor.hears:  # where sound stands beside them, they stay frame by frame
        parts = [_of_seen_frames(part, track) for part, track in zip(parts, reference.tracks, strict=True)]
    return StyleFeatures(torch.cat(parts), kind, reference.source)


def _of_seen_frames(features: Tensor, track: LandmarkTrack) -> Tensor:
    """Features (N, E) at 25 Hz without frames that lack the face, in which its landmarks are held or made up."""
    valid = resampled(track.valid.float()[:, None], track.fps)[:, 0] > 0.5
    return features[valid] if int(valid.sum()) >= MIN_SECONDS * RATE_HZ else features


def _given_expression(reference: Reference, extractor: StyleExtractor) -> StyleFeatures | None:
    """Coefficients that somebody else's model of faces has measured."""
    kind = extractor.sizes.expression
    parts = [part for part in reference.expressions if part.feature == kind]
    if parts:
        return StyleFeatures(torch.cat([part.values for part in parts]), kind, reference.source)
    if not reference.tracks and not reference.expressions:
        return None
    features = ", ".join(sorted({part.feature for part in reference.expressions})) or MEASURED_EXPRESSION
    raise InputError(
        f"{extractor.name} looks at {kind} coefficients, but {reference.source} gives {features}: measure them with "
        f"{KNOWN} (face_recon), give a file of them, or use an extractor that was trained on {features}."
    )
