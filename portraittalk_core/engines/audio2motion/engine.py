"""The motion engine of GeneFace++ and Real3D-Portrait: speech to expressions of a 3-D face model, on any face.

Source: Z. Ye et al., "GeneFace++" (arXiv 2305.00787) and "Real3D-Portrait" (arXiv 2401.08503).

Shapes: F frames at 50 Hz, T frames at 25 Hz, D feature channels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from ...checks import check_finite, check_range, check_shape
from ...errors import InputError
from ...face.morphable import MorphableModel, displacement_px, fit_face
from ...progress import Progress
from ...speech.encoders import GivenFeatures, SpeechFeatures
from ...speech.mel import MEL_RATE_HZ
from ...speech.pitch import HOP, pitch_hz
from ...speech.voice_activity import voice_activity
from ...types import LandmarkTrack, Speech
from ..raw_engine import RawMotionEngine
from ..raw_motion import RawMotion
from .network import FRAME_STEP, LATENTS, NUM_EXPRESSIONS, REACH, ExpressionNet
from .spec import SPEC

FEATURE_RATE_HZ = 50
MOTION_RATE = Fraction(25)
ENCODER_TAIL = 80  # samples by which the last feature's window reaches further than its hop
SPAN = 2000  # frames at 50 Hz predicted at once: 40 s
SILENT_BELOW = 0.1  # voice activity
MIN_SILENCE = 5  # frames at 25 Hz from which a face at rest is known
# share of the work, in thousandths, after the encoder, the pitch, the network and the face model
PROGRESS_ENDS = (800, 850, 950, 1000)


@dataclass(frozen=True)
class ExpressionOptions:
    """Options of the expression network."""

    mouth_amp: float = 0.4  # how far the mouth opens, 0..1; 0.4 is the authors' choice
    eye_amp: float = 1.0  # how far the eyes open, 0..1, for networks that know it
    temperature: float = 0.0  # 0 always the same .. 1 as varied as in training; the authors' command line has 0.2
    seed: int = 0  # of the variation

    def __post_init__(self) -> None:
        check_range(self.mouth_amp, 0, 1, "mouth_amp")
        check_range(self.eye_amp, 0, 1, "eye_amp")
        check_range(self.temperature, 0, 1, "temperature")
        check_range(self.seed, 0, 2**64 - 1, "seed")


class FeaturesLike(Protocol):
    """Protocol of a clip's speech features."""

    values: Tensor  # (F, D) float32
    rate_hz: float
    name: str


class EncoderLike(Protocol):
    """Protocol of a speech encoder, such as those of `speech.encoders`."""

    def encode(self, speech: Speech, on_progress: Progress | None = None) -> FeaturesLike:
        """Features of a whole clip."""


class Audio2Motion(RawMotionEngine):
    """Motion engine that predicts expression coefficients and applies them by the user's 3-D face model."""

    name = SPEC.name

    def __init__(
        self,
        vae: ExpressionNet,
        encoder: EncoderLike,
        morphable: MorphableModel,
        options: ExpressionOptions | None = None,
    ) -> None:
        """Build the engine from its parts.

        Args:
            vae: see `network.load_expression_net`.
            encoder: of the features that the network was trained on (HuBERT large).
            morphable: see `face.morphable.load_morphable`.
            options: amplitudes and variation.

        Raises:
            InputError: the face model's expressions are not the network's.
        """
        num_expressions = morphable.expression.shape[2]
        if num_expressions != NUM_EXPRESSIONS:
            raise InputError(
                f"the face model has {num_expressions} expressions; {self.name} needs one with {NUM_EXPRESSIONS}."
            )
        self.vae, self.encoder, self.morphable = vae, encoder, morphable
        self.options = options or ExpressionOptions()

    def listening_to(self, features: SpeechFeatures) -> Audio2Motion:
        """This engine with precomputed features of one clip instead of its encoder."""
        other = copy.copy(self)
        other.encoder = GivenFeatures(features)
        return other

    def raw_motion(self, speech: Speech, reference: LandmarkTrack, on_progress: Progress | None = None) -> RawMotion:
        """Motion of a reference face that says `speech`.

        What moves is the difference to the mean expression in the clip's silence (to the face model's neutral one where
        the clip has no silence), pictured on the reference's own shape in its own pose.

        Args:
            speech: the clip.
            reference: one frame: the face that is to say it.
            on_progress: called with thousandths of the work done and 1000.

        Returns:
            ceil(25 · seconds) frames at 25 a second.

        Raises:
            InputError: more than one reference frame, or features that the network was not trained on.
        """
        if len(reference) != 1:
            raise InputError(f"the reference must be one frame of landmarks, not {len(reference)}.")
        fit = fit_face(self.morphable, reference.points_px[0])
        num_frames = speech.num_frames(MOTION_RATE)
        padded = padded_speech(speech)
        starts = (0, *PROGRESS_ENDS)
        encoding, pitching, predicting, moving = (
            _part(on_progress, a, b) for a, b in zip(starts[:-1], PROGRESS_ENDS, strict=True)
        )
        num_features = (padded.waveform.numel() - ENCODER_TAIL) // HOP
        features = self._checked(self.encoder.encode(padded, encoding), num_features)
        f0 = pitch_hz(padded, pitching) if self.vae.size.pitch else torch.zeros(num_features)
        coefficients = expression(self.vae, features, f0, self.options, on_progress=predicting)[:num_frames]
        shift_px = displacement_px(self.morphable, fit, coefficients, resting_expression(coefficients, speech), moving)
        return RawMotion(shift_px, MOTION_RATE)

    def _checked(self, features: FeaturesLike, num_features: int) -> Tensor:
        """(F, D) features of the network's kind, as many as `num_features`."""
        width, values = self.vae.size.features, features.values
        if features.rate_hz != FEATURE_RATE_HZ or values.ndim != 2 or values.shape[1] != width:
            received = f"{tuple(values.shape)} at {float(features.rate_hz):g} Hz of {features.name}"
            raise InputError(
                f"{self.name} needs speech features (F, {width}) at {FEATURE_RATE_HZ} Hz, such as HuBERT large's; "
                f"got {received}. Choose the encoder that the network was trained with."
            )
        missing = num_features - len(values)
        if missing > 0:  # encoders that work in chunks may drop a last frame
            values = torch.cat([values, values[-1:].expand(missing, -1)])
        return values[:num_features]


def padded_speech(speech: Speech) -> Speech:
    """Speech padded with silence so that its features fill the network's steps of 160 ms exactly.

    With T = ceil(25 · seconds): 640 · 4 · ceil(T/4) + 80 samples, hence 8 · ceil(T/4) features.
    """
    steps = -(-speech.num_frames(MOTION_RATE) // (FRAME_STEP // 2))
    num_samples = steps * FRAME_STEP * HOP + ENCODER_TAIL
    missing = max(num_samples - speech.waveform.numel(), 0)
    return Speech(torch.nn.functional.pad(speech.waveform, (0, missing)), speech.source)


@torch.no_grad()
def expression(
    net: ExpressionNet,
    features: Tensor,
    f0: Tensor,
    options: ExpressionOptions | None = None,
    blink: Tensor | None = None,
    on_progress: Progress | None = None,
) -> Tensor:
    """Expression coefficients of speech.

    Works in spans of 40 s that see 3.84 s more on each side, which is further than the network reaches: the result is
    that of one span, up to rounding.

    Args:
        net: the network.
        features: (F, D) of its encoder, 50 a second.
        f0: (F,) Hz, 0 where there is no voice.
        options: amplitudes and variation.
        blink: (F,) long, 1 where the eyes close; never if None.
        on_progress: called with frames done and in all.

    Returns:
        (ceil(F/2), 64) float32, 25 a second. Where F is no multiple of 8, the last feature is held.
    """
    options = options or ExpressionOptions()
    count = len(features)
    check_shape(features, f"F {net.size.features}", "the speech features")
    check_shape(f0, f"{count}", "the pitch")
    blink = torch.zeros(count, dtype=torch.long) if blink is None else check_shape(blink, f"{count}", "the blinks")
    if not count:
        raise InputError("there are no speech features (0 frames); give a clip of at least 0.03 s.")
    total = -(-count // FRAME_STEP) * FRAME_STEP
    noise = _noise(total // FRAME_STEP, options)
    device = next(net.parameters()).device
    pieces = []
    for start in range(0, total, SPAN):
        stop = min(start + SPAN, total)
        low, high = max(start - REACH, 0), min(stop + REACH, total)
        index = torch.arange(low, high).clamp(max=count - 1)
        inputs = [values[index][None].to(device) for values in (features.float(), f0.float(), blink.long())]
        condition = net.condition(*inputs, options.mouth_amp, options.eye_amp)
        coefficients = net(condition, noise[:, :, low // FRAME_STEP : high // FRAME_STEP].to(device))[0]
        pieces.append(coefficients[(start - low) // 2 : (stop - low) // 2].float().cpu())
        if on_progress:
            on_progress(min(stop, count), count)
    return check_finite(torch.cat(pieces), "the network's expressions")[: -(-count // 2)]


def resting_expression(coefficients: Tensor, speech: Speech) -> Tensor:
    """(64,) mean of (T, 64) expressions over silence; zero if there is less than 0.2 s of silence."""
    step = MEL_RATE_HZ // int(MOTION_RATE)
    activity = voice_activity(speech)[: len(coefficients) * step]
    activity = torch.nn.functional.pad(activity, (0, len(coefficients) * step - len(activity)))
    silent = activity.reshape(-1, step).amax(1) < SILENT_BELOW
    if int(silent.sum()) < MIN_SILENCE:
        return torch.zeros(coefficients.shape[1])
    return coefficients[silent].double().mean(0).float()  # of equal frames exactly themselves


def _noise(steps: int, options: ExpressionOptions) -> Tensor:
    """(1, 16, steps) Gaussian noise, scaled by the temperature."""
    generator = torch.Generator().manual_seed(options.seed)
    return options.temperature * torch.randn(1, LATENTS, steps, generator=generator)


def _part(on_progress: Progress | None, start: int, stop: int) -> Progress | None:
    """Progress callback of one part of the work, reported as thousandths of the whole."""
    if on_progress is None:
        return None

    def report(done: int, total: int) -> None:
        on_progress(start + (stop - start) * done // max(total, 1), PROGRESS_ENDS[-1])

    return report
