"""Options of every motion engine.

Each line declares default, range and meaning once: flags, widgets, manifest columns and tables are derived from it.
No torch at the top, so that ``--help`` need not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from ..checks import check_finite, check_range, check_shape
from ..errors import InputError
from ..frame_rate import MAX_FPS, MIN_FPS, as_fps
from ..options import check_options, option

if TYPE_CHECKING:
    from torch import Tensor

    from ..types import StyleStatistics

NEUTRAL = "neutral"
EMOTION_NAMES = (NEUTRAL, "happy", "sad", "angry", "surprised", "disgusted", "afraid")
AS_IN_PORTRAIT, AT_CAMERA = "portrait", "camera"
MAX_GAZE_YAW, MAX_GAZE_PITCH = 30, 20  # degrees
LARGEST_SEED = 2**64 - 1


# of MotionOptions: what moves beside the mouth, at the values at which it does not
STILL = {"head_motion": 0.0, "blink_rate": 0.0, "eye_motion": 0.0, "breath": 0.0, "idle_motion": 0.0}


@dataclass(frozen=True)
class Listening:
    """What others in the picture do, for who listens to them; after the last frame it goes on as there."""

    speaking: Tensor  # (K,) 0..1 a frame: how much somebody else speaks
    towards_deg: Tensor  # (K, 2) yaw and pitch at which that one is seen, from where the face looks by itself


@dataclass(frozen=True)
class MotionOptions:
    """Options of every motion engine."""

    fps: Fraction = option(
        Fraction(25), MIN_FPS, MAX_FPS, "Frames per second. 29.97 is taken as 30000/1001.", step=0.001
    )
    mouth_gain: float = option(
        1.0, 0, 2, "How far the mouth opens: 0 keeps it closed, 1 is natural, 2 exaggerates.", step=0.05
    )
    head_motion: float = option(1.0, 0, 2, "How much the head moves: 0 locks it, 1 is calm, 2 is lively.", step=0.05)
    blink_rate: float = option(15.0, 0, 40, "Blinks per minute; 0 never blinks.", step=1)
    silence_gate_db: float = option(
        -45.0, -80, 0,
        "Sound this far below the voice's level keeps the mouth shut. At -80 every sound moves it, music too.",
        step=1, advanced=True,
    )  # fmt: skip
    smoothing: float = option(0.3, 0, 1, "Calms jitter: 0 none, 1 strong (a lazy mouth).", step=0.05, advanced=True)
    offset_ms: float = option(
        0.0, -500, 500, "Moves the mouth in time: positive is later, negative earlier than the sound.",
        step=5, advanced=True,
    )  # fmt: skip
    seed: int = option(
        0, 0, LARGEST_SEED, "Another seed gives other blinks and head motion; the mouth follows the sound alone."
    )
    emotion: str = option(
        NEUTRAL, choices=EMOTION_NAMES, help="What brows, lids, cheeks and the mouth's corners show.", advanced=True
    )
    emotion_strength: float = option(
        0.7, 0, 1, "How much of the emotion shows: 0 nothing, 1 plainly.", step=0.05, advanced=True
    )
    gaze: str = option(
        AS_IN_PORTRAIT, choices=(AS_IN_PORTRAIT, AT_CAMERA), advanced=True,
        help="Where the eyes rest: as in the portrait, or at the camera.",
    )  # fmt: skip
    gaze_yaw: float = option(
        0.0, -MAX_GAZE_YAW, MAX_GAZE_YAW, "Degrees by which the eyes look from there to the viewer's right.",
        step=1, advanced=True,
    )  # fmt: skip
    gaze_pitch: float = option(
        0.0, -MAX_GAZE_PITCH, MAX_GAZE_PITCH, "Degrees by which the eyes look from there downwards.",
        step=1, advanced=True,
    )  # fmt: skip
    eye_motion: float = option(
        1.0, 0, 2, "How much the eyes move by themselves: 0 fixes them in the head, 1 is natural, 2 is restless.",
        step=0.05, advanced=True,
    )  # fmt: skip
    brow_motion: float = option(
        1.0, 0, 2, "How far the brows rise on stressed syllables: 0 not at all, 1 is natural; with the head's motion.",
        step=0.05, advanced=True,
    )  # fmt: skip
    breath: float = option(
        1.0, 0, 2, "How far shoulders and head rise with the breath, and the built-in engine's lips part for it before "
        "a phrase: 0 not at all, 1 is natural.",
        step=0.05, advanced=True,
    )  # fmt: skip
    idle_motion: float = option(
        1.0, 0, 2, "How much the head sways and nods in pauses and while it listens; with the head's motion.",
        step=0.05, advanced=True,
    )  # fmt: skip
    emotion_points: tuple = ()  # (seconds, emotion, strength) from which moment on which emotion shows instead
    gaze_points: tuple = ()  # (seconds, yaw, pitch) degrees, added to gaze_yaw and gaze_pitch; linear in between
    listening: Listening | None = field(default=None, compare=False)  # to others in the picture
    gain_curve: Tensor | None = field(default=None, compare=False)  # (K,) 0..2 a frame; times mouth_gain
    style_statistics: StyleStatistics | None = None  # somebody's way of speaking; the amounts above are factors of it

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_options(self)
        if self.gain_curve is not None:
            _check_gain_curve(self.gain_curve)

    def gains(self, num_frames: int) -> Tensor:
        """(T,) the mouth's gain in every frame, 0..2."""
        import torch

        if self.gain_curve is None:
            return torch.full((num_frames,), float(self.mouth_gain))
        curve = self.gain_curve.float()[:num_frames]
        extended = torch.cat([curve, curve[-1:].expand(num_frames - len(curve))])
        return (extended * self.mouth_gain).clamp(max=2)


def _check_gain_curve(curve: Tensor) -> None:
    check_finite(check_shape(curve, "K", "the mouth gain curve"), "the mouth gain curve")
    if not len(curve):
        raise InputError("the mouth gain curve holds no value; give one a frame, or none at all.")
    check_range(float(curve.min()), 0, 2, "the least value of the mouth gain curve")
    check_range(float(curve.max()), 0, 2, "the largest value of the mouth gain curve")
