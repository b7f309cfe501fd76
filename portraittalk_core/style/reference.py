"""A reference video, a recording or a name becomes a style, and a style becomes motion.

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
from ..face.mesh.landmarks import MeshBackend, open_mesh, track_faces
from ..motion.options import MotionOptions
from ..progress import Progress
from ..speech.encoders import SpeechEncoder
from ..types import SPEECH_RATE_HZ, LandmarkTrack, Speech, StyleStatistics
from .extractor import StyleExtractor
from .features import (
    MEASURED_EXPRESSION,
    MIN_SECONDS,
    MIN_SEEN,
    StyleFeatures,
    audio_features,
    expression_features,
    expression_numbers,
)
from .options import StyleUse
from .presets import preset
from .prior import STATISTICS_SPACE, BlendedStyle, Style, StylePrior
from .statistics import measure_statistics, to_numbers, to_statistics

PIECE_S = Fraction(256, 25)  # what an extractor sees at once
MOST_PIECES = 8  # of a long video; they are spread evenly over it
# how much people differ, in the order of types.STYLE_STATISTICS: what the noise of a style is measured by
STATISTICS_SPREAD = (0.08, 0.03, 0.025, 0.03, 0.03, 12.0, 0.04, 1.5, 0.1, 0.07, 0.02)


@dataclass(frozen=True)
class Reference:
    """What is known of the person whose style is wanted: some pieces of a video, or its sound, or both."""

    tracks: tuple[LandmarkTrack, ...] = ()  # without a face in some of their frames, maybe
    sounds: tuple[Speech, ...] = ()  # of the same pieces; or all of a recording
    source: str = "the reference"

    def __post_init__(self) -> None:
        if not self.tracks and not self.sounds:
            raise InputError("a style needs a reference: a video with a face, a sound, or both; connect one.")


@dataclass(frozen=True)
class Watching:
    """How the video of a reference is watched."""

    face_index: int = 0  # which of several faces
    face_order: str = "size"
    pieces: int = field(default=MOST_PIECES)  # at most

    def __post_init__(self) -> None:
        check_range(self.pieces, 1, 1000, "the number of pieces")


def watch(
    pictures: Iterable[Tensor],
    fps: Fraction,
    num_frames: int,
    mesh: MeshBackend | None = None,
    watching: Watching | None = None,
    source: str = "the reference",
) -> list[tuple[int, LandmarkTrack]]:
    """The face of a video: all of a short one, pieces of about ten seconds, evenly spread, of a long one.

    Args:
        pictures: (H, W, 3) uint8, all of one size; none is kept.
        fps: frames per second of the pictures.
        num_frames: how many they are, about.
        mesh: an open back end; None opens one for this call.
        watching: which face, and how many pieces.
        source: what to call the video in messages.

    Returns:
        Number of the first frame and landmarks of each piece that shows the face.

    Raises:
        InputError: shorter than a second.
        NoFaceError: the face is in no piece, or in less than half of the frames that were looked at.
    """
    watching = watching or Watching()
    if mesh is None:
        with open_mesh() as opened:
            return watch(pictures, fps, num_frames, opened, watching, source)
    size = math.ceil(PIECE_S * fps)
    pieces = [(0, None)]
    if num_frames > watching.pieces * size:
        step = (num_frames - size) / max(watching.pieces - 1, 1)
        pieces = [(round(i * step), size) for i in range(watching.pieces)]
    found, looked, pictures, at = [], 0, iter(pictures), 0
    for start, length in pieces:
        seen = itertools.islice(pictures, start - at, None if length is None else start - at + length)
        counter = itertools.count()
        counted = (picture for picture, _ in zip(seen, counter, strict=False))
        with contextlib.suppress(NoFaceError):  # it may be in other pieces
            found.append((start, track_faces(counted, fps, mesh, watching.face_index, watching.face_order)))
        seen_now = next(counter)
        looked, at = looked + seen_now, start + seen_now
    return _checked(found, looked, fps, source)


def _checked(
    found: list[tuple[int, LandmarkTrack]], looked: int, fps: Fraction, source: str
) -> list[tuple[int, LandmarkTrack]]:
    if looked < MIN_SECONDS * fps:
        raise InputError(f"{source} lasts {float(looked / fps):.2f} s; a style needs {MIN_SECONDS:.0f} s at least.")
    valid = sum(int(track.valid.sum()) for _, track in found)
    if valid < MIN_SEEN * looked:
        raise NoFaceError(
            f"{source} shows the face in {valid} of the {looked} frames that were looked at; a style needs it in most "
            "of them: choose another video, another part of it, or another face."
        )
    return [(start, track) for start, track in found if track.seconds >= MIN_SECONDS and track.valid.any()]


def heard(speech: Speech, pieces: list[tuple[int, LandmarkTrack]]) -> tuple[Speech, ...]:
    """What is heard in each piece; silence where the sound has ended."""
    made = []
    for start, track in pieces:
        first = round(start / track.fps * SPEECH_RATE_HZ)
        count = math.ceil(len(track) / track.fps * SPEECH_RATE_HZ)
        part = speech.waveform[first : first + count]
        made.append(Speech(torch.nn.functional.pad(part, (0, count - len(part))), speech.source))
    return tuple(made)


def style_of(
    reference: Reference,
    use: StyleUse | None = None,
    extractor: StyleExtractor | None = None,
    encoder: SpeechEncoder | None = None,
    on_progress: Progress | None = None,
) -> StylePrior:
    """The style of a person.

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
    found = extractor.prior(audio, expression, reference.source, on_progress)
    return replace(found, strength=use.strength, noise=use.noise, seed=use.seed, style_statistics=style_statistics)


def statistics_prior(reference: Reference, use: StyleUse | None = None) -> StylePrior:
    """The style as motion statistics: mean and deviation of the windows of all pieces."""
    use = use or StyleUse()
    windows = torch.cat([measure_statistics(track) for track in reference.tracks])
    std, spread = windows.std(0, correction=0), torch.tensor(STATISTICS_SPREAD)
    return StylePrior(
        windows.mean(0), std, spread, STATISTICS_SPACE, reference.source, use.strength, use.noise, use.seed
    )


def named_style(name: str, use: StyleUse | None = None) -> StylePrior:
    """A style from `style.presets` by its name."""
    use, numbers = use or StyleUse(), to_numbers(preset(name))
    spread = torch.tensor(STATISTICS_SPREAD)
    return StylePrior(
        numbers, torch.zeros_like(numbers), spread, STATISTICS_SPACE, name, use.strength, use.noise, use.seed
    )


def statistics_of(style: StylePrior) -> StyleStatistics:
    """What a style asks of a motion engine: one draw of its motion statistics.

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
    """The motion that an engine makes in a style.

    Args:
        make: makes the landmarks for some options.
        options: without a style_statistics.
        style: None for the engine's own; of one that changes over time both ends are made, and mixed frame by frame.
    """
    if style is None or style.strength == 0:
        return make(options)
    if not isinstance(style, BlendedStyle):
        return make(replace(options, style_statistics=statistics_of(style)))
    first, second = (make(replace(options, style_statistics=statistics_of(one))) for one in (style.first, style.second))
    shares = style.shares(len(first), first.fps)[:, None, None]
    return replace(first, points=torch.lerp(first.points, second.points, shares))


def _audio(reference: Reference, extractor: StyleExtractor, encoder: SpeechEncoder | None) -> StyleFeatures | None:
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
    if not reference.tracks:
        return None
    if extractor.sizes.expression != MEASURED_EXPRESSION:
        raise InputError(
            f"{extractor.name} looks at {extractor.sizes.expression}, which landmarks cannot give; use one that was "
            "trained on landmarks."
        )
    numbers = torch.cat([expression_numbers(track)[track.valid] for track in reference.tracks])
    rest = numbers.median(0).values
    parts = [expression_features(track, rest, reference.source) for track in reference.tracks]
    return StyleFeatures(torch.cat([part.values for part in parts]), parts[0].feature, reference.source)
