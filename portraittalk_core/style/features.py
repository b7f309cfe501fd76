"""Inputs of a style extractor at 25 Hz: audio features and expression features.

Shapes: T frames of the clip, N features at 25 Hz, D numbers of a feature.
Source: SVP, section 3 (Whisper-Tiny features and 3DMM coefficients); `docs/design/styles.md` 1.
Landmarks are this project's own choice, which needs no weights and no licence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_shape
from ..errors import InputError, NoFaceError, ShapeError
from ..face.canonical import canonical_face
from ..face.geometry import align, head_pose
from ..face.topology import LEFT_BROW, RIGHT_BROW, RIGID
from ..progress import Progress
from ..speech.encoders import FEATURE_RATE_HZ, GivenFeatures, SpeechEncoder, SpeechFeatures
from ..speech.mel import MEL_RATE_HZ, NUM_MELS, log_mel
from ..types import LandmarkTrack, Speech, as_fps

RATE_HZ = 25
MIN_SECONDS = 1.0  # a shorter clip does not show how someone speaks
MIN_VALID_SHARE = 0.5  # share of the frames that must show the face
LOUD, DECIBELS = 0.95, 20.0  # log-mel is measured from this quantile of the clip, in this many decibels
BLOCK = 1000  # frames that are looked at together

# x to the viewer's right, y down, z away from the viewer, in inter-ocular distances; the person's own right and left
EXPRESSION_NAMES = (
    "mouth opening", "mouth width", "right corner up", "left corner up", "mouth to the left", "lips forward",
    "upper lip up", "lower lip down", "jaw down", "jaw to the left", "right brow inside up", "left brow inside up",
    "right brow outside up", "left brow outside up", "brows apart", "right eye open", "left eye open",
    "right cheek up", "left cheek up", "nostrils up",
)  # fmt: skip
HEAD_NAMES = ("pitch", "yaw", "roll")  # how fast the head turns, after the expression
EXPRESSION_SCALE = 10.0  # speech moves a face by about a tenth of the inter-ocular distance
TURN_SCALE = 1 / 30  # a speaking head turns by some ten degrees a second
LANDMARK_WIDTH = len(EXPRESSION_NAMES) + len(HEAD_NAMES)

COEFFICIENTS, EXPRESSION_OF_257 = 64, slice(80, 144)  # of Deep3DFaceReconstruction's coefficients
WHISPER = "whisper-tiny"  # what needs a speech encoder; the other hears by itself
AUDIO_WIDTHS = {WHISPER: 384, "log-mel": NUM_MELS}
EXPRESSION_WIDTHS = {"landmarks": LANDMARK_WIDTH, "3dmm": COEFFICIENTS, "blendshapes": 52}
MEASURED_EXPRESSION = "landmarks"  # what this library reads of a video; the other kinds must come from elsewhere
NO_AUDIO = "none"  # in the place of a kind, of an extractor that does not hear
WIDTHS = {**AUDIO_WIDTHS, **EXPRESSION_WIDTHS}


@dataclass(frozen=True)
class StyleFeatures:
    """Features of one modality of a clip, audio or expression, at 25 Hz; feature n is at n / 25 s."""

    values: Tensor  # (N, D) float32
    feature: str  # a name of WIDTHS
    source: str = "clip"  # what to call it in messages

    def __post_init__(self) -> None:
        check_choice(self.feature, tuple(WIDTHS), "the kind of style features")
        name = f"the {self.feature} features of {self.source}"
        check_finite(check_shape(self.values, f"N {WIDTHS[self.feature]}", name), name)
        if not len(self.values):
            raise InputError(f"{self.source} has no {self.feature} features; give a longer clip.")

    def __len__(self) -> int:
        return len(self.values)


def audio_features(
    speech: Speech, encoder: SpeechEncoder | GivenFeatures | None = None, on_progress: Progress | None = None
) -> StyleFeatures:
    """Audio features of a clip: Whisper's hidden states, or a log-mel spectrogram.

    Args:
        speech: the clip.
        encoder: Whisper tiny, of `speech.encoders.load_speech_encoder`; None takes the log-mel spectrogram.
        on_progress: called with the encoder's layers done and in all.

    Returns:
        (N, 384) Whisper's 50 features a second averaged in pairs, or (N, 80) log-mel averaged in fours, where 0 is the
        level that 5 % of the clip's values are above and −1 is 20 dB below: how loud the recording is does not count.
        N = ceil(25 · seconds).

    Raises:
        InputError: shorter than a second, silent, or another encoder than Whisper tiny.
    """
    _check_long_enough(speech.seconds, speech.source)
    count = speech.num_frames(Fraction(RATE_HZ))
    if float(speech.waveform.abs().max()) == 0:
        raise InputError(f"{speech.source} is silent ({speech.seconds:.1f} s); give a clip with speech in it.")
    if encoder is None:
        return StyleFeatures(mel_features(log_mel(speech), count), "log-mel", speech.source)
    features: SpeechFeatures = encoder.encode(speech, on_progress)
    if features.width != AUDIO_WIDTHS[WHISPER] or not features.name.startswith("whisper"):
        raise InputError(
            f"styles are heard by Whisper tiny (384 channels), not by {features.name} ({features.width} channels); "
            "choose openai/whisper-tiny, or no encoder."
        )
    return StyleFeatures(averaged(features.values, int(FEATURE_RATE_HZ) // RATE_HZ, count), WHISPER, speech.source)


def mel_features(mel: Tensor, count: int) -> Tensor:
    """(count, 80) features of a log-mel spectrogram (M, 80) in decibels, 100 a second."""
    check_shape(mel, f"M {NUM_MELS}", "the log-mel spectrogram")
    level = mel.flatten().kthvalue(max(round(LOUD * mel.numel()), 1)).values
    return averaged((mel - level) / DECIBELS, MEL_RATE_HZ // RATE_HZ, count)


def averaged(values: Tensor, group: int, count: int) -> Tensor:
    """(count, D) means of consecutive groups of rows (M, D), padded with copies of the last row."""
    if not len(values):
        raise ShapeError("there are no features to average; give a longer clip.")
    padded = values[: count * group]
    padded = torch.cat([padded, padded[-1:].expand(count * group - len(padded), -1)])
    return padded.view(count, group, -1).mean(1)


def coefficient_features(
    values: Tensor, fps: Fraction | float, feature: str = "3dmm", source: str = "clip"
) -> StyleFeatures:
    """Expression features from given coefficients, such as those of a 3DMM.

    Args:
        values: "3dmm": (T, 64) expression coefficients, or (T, 257) all of Deep3DFaceReconstruction's; "blendshapes":
            (T, 52) of MediaPipe, 0..1.
        fps: of these frames.
        feature: which of the two.
        source: for messages.

    Raises:
        InputError: another shape, values that are not finite, or shorter than a second.
    """
    check_choice(feature, ("3dmm", "blendshapes"), "the kind of expression")
    if feature == "3dmm" and values.ndim == 2 and values.shape[1] == 257:
        values = values[:, EXPRESSION_OF_257]
    check_shape(values, f"T {WIDTHS[feature]}", f"the {feature} coefficients of {source}")
    _check_long_enough(len(values) / float(as_fps(fps)), source)
    return StyleFeatures(resampled(values.float(), fps), feature, source)


def expression_features(track: LandmarkTrack, neutral: Tensor | None = None, source: str = "clip") -> StyleFeatures:
    """Expression features and head angular velocity from landmarks, normalised for head pose, size and face shape.

    Every frame is turned back and scaled by the points that speech hardly moves, 20 numbers are read from it
    (EXPRESSION_NAMES, in tenths of the inter-ocular distance), and the person's neutral ones are subtracted. Then come
    pitch, yaw and roll per second, in 30 degrees.

    Args:
        track: of one person; at any frame rate.
        neutral: (20,) numbers of the person at rest, from `neutral_expression` of many clips; None takes the median of
            this one, so that an expression that never leaves the face (a lasting smile) does not show.
        source: for messages.

    Returns:
        (N, 23), N = ceil(25 · seconds).

    Raises:
        NoFaceError: the face is valid in less than half of the frames.
        InputError: shorter than a second.
    """
    _check_long_enough(track.seconds, source)
    num_valid = int(track.valid.sum())
    if num_valid < max(MIN_VALID_SHARE * len(track), 1):
        raise NoFaceError(
            f"{source} shows the face in {num_valid} of {len(track)} frames only; give a clip that shows it in "
            "most of them."
        )
    numbers = expression_numbers(track)
    rest = numbers[track.valid].median(0).values if neutral is None else neutral
    check_shape(rest, str(len(EXPRESSION_NAMES)), "the neutral expression")
    angles = torch.cat([head_pose(part).angles_deg for part in _blocks(track)])
    turns = _resampled_rate(angles, track.fps)
    expression = resampled((numbers - rest) * EXPRESSION_SCALE, track.fps)
    return StyleFeatures(torch.cat([expression, turns * TURN_SCALE], 1), MEASURED_EXPRESSION, source)


def neutral_expression(tracks: list[LandmarkTrack]) -> Tensor:
    """(20,) neutral expression of a person: the median of the expression values over all frames of some clips."""
    return torch.cat([expression_numbers(track)[track.valid] for track in tracks]).median(0).values


def expression_numbers(track: LandmarkTrack) -> Tensor:
    """(T, 20) absolute expression values in the order of EXPRESSION_NAMES, in inter-ocular distances."""
    return torch.cat([_numbers(_upright(part.points_px)) for part in _blocks(track)])


def resampled(values: Tensor, fps: Fraction | float) -> Tensor:
    """(N, D) values (T, D) resampled to 25 Hz by linear interpolation; the last value is held."""
    rate = as_fps(fps)
    if rate == RATE_HZ:
        return values
    count = math.ceil(len(values) / rate * RATE_HZ)
    at = (torch.arange(count, dtype=torch.float64) * float(rate / RATE_HZ)).clamp(max=len(values) - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[low], values[high], (at - low).to(values.dtype)[:, None])


def _resampled_rate(angles: Tensor, fps: Fraction) -> Tensor:
    """(N, 3) angular velocity in degrees a second of angles (T, 3): differences at 25 Hz, whatever the frame rate."""
    at_rate = resampled(angles, fps)
    return torch.diff(at_rate, dim=0, prepend=at_rate[:1]) * RATE_HZ


def _check_long_enough(seconds: float, source: str) -> None:
    if seconds < MIN_SECONDS:
        raise InputError(f"{source} lasts {seconds:.2f} s; a style needs {MIN_SECONDS:g} s at least.")


def _blocks(track: LandmarkTrack) -> list[LandmarkTrack]:
    return [track.slice(start, start + BLOCK) for start in range(0, len(track), BLOCK)]


def _upright(points_px: Tensor) -> Tensor:
    """(T, 478, 3) landmarks aligned with the canonical face, in inter-ocular distances."""
    rigid = list(RIGID)
    model, points = canonical_face()[rigid].double(), points_px.double()
    scale, rotation, shift = align(model.expand(len(points), -1, -1), points[:, rigid])
    centred = (points - shift[:, None]) / scale.clamp(min=1e-9)[:, None, None]
    return (centred @ rotation).float()


def _numbers(points: Tensor) -> Tensor:
    """(T, 20) expression values, in the order of EXPRESSION_NAMES, of aligned landmarks (T, 478, 3)."""
    x, y, z = points.unbind(-1)

    def gap(first: int, second: int) -> Tensor:
        return (points[:, first] - points[:, second]).norm(dim=1)

    def mean(axis: Tensor, *numbers: int) -> Tensor:
        return axis[:, list(numbers)].mean(1)

    columns = (
        gap(13, 14), gap(61, 291), -y[:, 61], -y[:, 291], mean(x, 61, 291), -mean(z, 0, 17),
        -y[:, 0], y[:, 17], y[:, 152], x[:, 152],
        -mean(y, RIGHT_BROW[3], RIGHT_BROW[9]), -mean(y, LEFT_BROW[3], LEFT_BROW[9]),
        -mean(y, RIGHT_BROW[0], RIGHT_BROW[5]), -mean(y, LEFT_BROW[0], LEFT_BROW[5]), gap(55, 285),
        gap(159, 145), gap(386, 374), -y[:, 50], -y[:, 280], -mean(y, 48, 278),
    )  # fmt: skip
    return torch.stack(columns, 1)
