"""The small frozen records that every stage hands to the next one.

Each checks itself on construction and turns itself into named tensors plus text metadata (``to_record``) and back
(``from_record``), so that ``media.records`` can keep any of them as one safetensors file.

Shapes: T frames, N samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from .checks import check_finite, check_range, check_shape
from .errors import InputError, ShapeError
from .frame_rate import as_fps, num_frames_for

NUM_LANDMARKS = 478  # MediaPipe face mesh with refined irises
SPEECH_RATE_HZ = 16_000

MOUTH_PARAMETERS = ("opening", "jaw", "width", "rounding", "raise_upper", "tuck", "press")  # fields of MouthCurves

# what is measured of a way of speaking: fields of Manner besides its strength
MANNER = ("opening", "rest_opening", "spread", "rounding", "smile", "blink_rate", "blink_s", "head_deg", "head_hz",
          "head_shift", "brow")  # fmt: skip

Record = tuple[dict[str, Tensor], dict[str, str]]


def _record_kind(metadata: dict[str, str], kind: str) -> None:
    found = metadata.get("kind", kind)
    if found != kind:
        raise InputError(f"this file holds a {found}, not a {kind}.")


@dataclass(frozen=True)
class Speech:
    """A mono speech signal at 16 kHz."""

    waveform: Tensor  # (N,) float32, −1..1
    source: str = "audio"  # what to call it in messages: a file name or "audio input"
    sample_rate: ClassVar[int] = SPEECH_RATE_HZ

    def __post_init__(self) -> None:
        check_shape(self.waveform, "N", f"the waveform of {self.source}")
        if self.waveform.dtype != torch.float32:
            raise ShapeError(f"the waveform of {self.source} must be float32, not {self.waveform.dtype}.")
        if self.waveform.numel() == 0:
            raise InputError(f"{self.source} holds no sound (0 samples); give a clip with speech in it.")
        check_finite(self.waveform, f"the sound of {self.source}")

    @property
    def seconds(self) -> float:
        return self.waveform.numel() / self.sample_rate

    def num_frames(self, fps: Fraction) -> int:
        """Frames that cover this speech at `fps`."""
        return num_frames_for(self.waveform.numel(), self.sample_rate, fps)


@dataclass(frozen=True)
class LandmarkTrack:
    """The hub: one face's landmarks over time, on a picture of a given size.

    MediaPipe order; x and y normalised to 0..1 of the picture (points may lie outside it), z on x's scale.
    """

    kind: ClassVar[str] = "LandmarkTrack"
    points: Tensor  # (T, 478, 3) float32
    valid: Tensor  # (T,) bool: False where no face was seen and the points are held or interpolated
    fps: Fraction
    width: int  # pixels
    height: int  # pixels

    def __post_init__(self) -> None:
        check_shape(self.points, f"T {NUM_LANDMARKS} 3", "landmark points")
        check_shape(self.valid, "T", "landmark valid flags")
        if self.points.dtype != torch.float32 or self.valid.dtype != torch.bool:
            raise ShapeError(f"landmarks must be float32 with bool flags, not {self.points.dtype}, {self.valid.dtype}.")
        if len(self.points) == 0 or len(self.points) != len(self.valid):
            raise ShapeError(f"{len(self.points)} landmark frames and {len(self.valid)} valid flags: both must be ≥ 1.")
        check_finite(self.points, "landmark points")
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_range(self.width, 1, 65_536, "the track's width")
        check_range(self.height, 1, 65_536, "the track's height")

    def __len__(self) -> int:
        return len(self.points)

    @property
    def seconds(self) -> float:
        return float(len(self) / self.fps)

    @property
    def points_px(self) -> Tensor:
        """(T, 478, 3) in pixels, z on x's scale."""
        return self.points * torch.tensor([self.width, self.height, self.width], dtype=torch.float32)

    def slice(self, start: int, stop: int) -> LandmarkTrack:
        """Frames start..stop-1 as a track of their own."""
        return replace(self, points=self.points[start:stop], valid=self.valid[start:stop])

    @staticmethod
    def from_px(
        points_px: Tensor, width: int, height: int, fps: Fraction, valid: Tensor | None = None
    ) -> LandmarkTrack:
        """A track from (T, 478, 3) pixel landmarks; all frames are valid unless `valid` (T,) says otherwise."""
        scale = torch.tensor([width, height, width], dtype=torch.float32)
        flags = torch.ones(len(points_px), dtype=torch.bool) if valid is None else valid
        return LandmarkTrack((points_px.float() / scale), flags, fps, width, height)

    def to_record(self) -> Record:
        """Tensors and metadata of a track file."""
        metadata = {
            "kind": self.kind,
            "fps": f"{self.fps.numerator}/{self.fps.denominator}",
            "width": str(self.width),
            "height": str(self.height),
        }
        return {"points": self.points, "valid": self.valid}, metadata

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> LandmarkTrack:
        """The track of a file's tensors and metadata.

        Raises:
            InputError: another kind of record, or a part is missing.
        """
        _record_kind(metadata, cls.kind)
        missing = [k for k in ("points", "valid") if k not in tensors]
        missing += [k for k in ("fps", "width", "height") if k not in metadata]
        if missing:
            raise InputError(f"a landmark track needs {', '.join(missing)}, which this file lacks.")
        width, height = int(metadata["width"]), int(metadata["height"])
        return cls(tensors["points"], tensors["valid"], as_fps(metadata["fps"]), width, height)


@dataclass(frozen=True)
class HeadPose:
    """Head rotation, position and size over time."""

    kind: ClassVar[str] = "HeadPose"
    angles_deg: Tensor  # (T, 3) float32: pitch (+ looks down), yaw (+ turns to the viewer's right), roll (+ clockwise)
    translation: Tensor  # (T, 3) float32, in units of the canonical face's inter-ocular distance
    scale: Tensor  # (T,) float32, pixels per inter-ocular distance

    def __post_init__(self) -> None:
        check_shape(self.angles_deg, "T 3", "head angles")
        check_shape(self.translation, f"{len(self.angles_deg)} 3", "head translation")
        check_shape(self.scale, f"{len(self.angles_deg)}", "head scale")

    def __len__(self) -> int:
        return len(self.angles_deg)

    def to_record(self) -> Record:
        """Tensors and metadata of a head pose file."""
        tensors = {"angles_deg": self.angles_deg, "translation": self.translation, "scale": self.scale}
        return tensors, {"kind": self.kind}

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> HeadPose:
        """The head pose of a file's tensors and metadata."""
        _record_kind(metadata, cls.kind)
        return cls(tensors["angles_deg"], tensors["translation"], tensors["scale"])


@dataclass(frozen=True)
class MouthCurves:
    """What the mouth does, frame by frame, free of any one face: what a speech predictor writes."""

    kind: ClassVar[str] = "MouthCurves"
    opening: Tensor  # (T,) float32, of the lips, 0 closed .. 1 as wide as this face opens in speech
    jaw: Tensor  # (T,) float32, 0 shut .. 1 dropped as far as in an open vowel
    width: Tensor  # (T,) float32, −1 narrow .. 0 rest .. 1 spread
    rounding: Tensor  # (T,) float32, 0 flat .. 1 lips rounded and pushed forward
    raise_upper: Tensor  # (T,) float32, 0 at rest .. 1 upper lip lifted
    tuck: Tensor  # (T,) float32, 0 relaxed .. 1 lower lip under the upper teeth (labiodentals)
    press: Tensor  # (T,) float32, 0 relaxed .. 1 lips pressed together (bilabials)

    def __post_init__(self) -> None:
        check_shape(self.opening, "T", "mouth opening")
        for name in MOUTH_PARAMETERS[1:]:
            check_shape(getattr(self, name), f"{len(self.opening)}", f"mouth {name}")

    def __len__(self) -> int:
        return len(self.opening)

    @staticmethod
    def closed(num_frames: int) -> MouthCurves:
        """A mouth at rest."""
        return MouthCurves(*(torch.zeros(num_frames) for _ in MOUTH_PARAMETERS))

    @property
    def parting(self) -> Tensor:
        """(T,) how far the lips stand apart once rounding and pressing have had their say; 0 closed .. 1 widest."""
        return self.opening * (1 - 0.15 * self.rounding.clamp(0, 1)) * (1 - self.press.clamp(0, 1))


@dataclass(frozen=True)
class Manner:
    """How somebody speaks, in numbers that can be seen: what a style asks of any motion engine.

    What stands here is how the engine in the box speaks by itself.
    """

    opening: float = 0.21  # how far the lips part while speaking, 10th to 90th percentile, over the mouth's width
    rest_opening: float = 0.015  # how far they stand apart at their closest, over the mouth's width
    spread: float = 0.035  # how far the corners go outward, median to 90th percentile of their distance
    rounding: float = 0.11  # how far they come in, 10th percentile to median; both in inter-ocular distances
    smile: float = 0.0  # how much higher than most people's the corners stand at rest, inter-ocular distances
    blink_rate: float = 15.0  # blinks per minute
    blink_s: float = 0.16  # how long a blink keeps the lids shut, seconds
    head_deg: float = 0.86  # deviation of the head's angles, degrees, root mean square of the three
    head_hz: float = 0.27  # how often the head swings to and fro
    head_shift: float = 0.015  # deviation of the head's place, inter-ocular distances
    brow: float = 0.008  # how far the brows move, 10th to 90th percentile, inter-ocular distances
    strength: float = 1.0  # 0 leaves an engine as it is, 1 speaks so, 2 exaggerates

    def __post_init__(self) -> None:
        check_range(self.strength, 0, 2, "the strength of a style")
        for name in MANNER:
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name} of a style is {getattr(self, name)}; it must be a number.")


@dataclass(frozen=True)
class MotionOptions:
    """What a person may ask of any motion engine."""

    fps: Fraction = field(default_factory=lambda: Fraction(25))
    mouth_gain: float = 1.0  # 0 keeps the mouth closed .. 2 exaggerates
    head_motion: float = 1.0  # 0 locks the head .. 2
    blink_rate: float = 15.0  # blinks per minute, 0..40
    silence_gate_db: float = -45.0  # below the clip's speech level: the mouth stays closed
    smoothing: float = 0.3  # 0 none .. 1 strong
    offset_ms: float = 0.0  # + moves the mouth later
    seed: int = 0
    gain_curve: Tensor | None = field(default=None, compare=False)  # (K,) 0..2 a frame; times mouth_gain
    manner: Manner | None = None  # somebody's way of speaking; the amounts above are factors of it

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_range(self.mouth_gain, 0, 2, "mouth_gain")
        if self.gain_curve is not None:
            _check_gain_curve(self.gain_curve)
        check_range(self.head_motion, 0, 2, "head_motion")
        check_range(self.blink_rate, 0, 40, "blink_rate")
        check_range(self.silence_gate_db, -80, 0, "silence_gate_db")
        check_range(self.smoothing, 0, 1, "smoothing")
        check_range(self.offset_ms, -500, 500, "offset_ms")
        check_range(self.seed, 0, 2**64 - 1, "seed")

    def gains(self, num_frames: int) -> Tensor:
        """(T,) the mouth's gain in every frame, 0..2."""
        if self.gain_curve is None:
            return torch.full((num_frames,), float(self.mouth_gain))
        curve = self.gain_curve.float()[:num_frames]
        held = torch.cat([curve, curve[-1:].expand(num_frames - len(curve))])
        return (held * self.mouth_gain).clamp(max=2)


def _check_gain_curve(curve: Tensor) -> None:
    check_finite(check_shape(curve, "K", "the mouth gain curve"), "the mouth gain curve")
    if not len(curve):
        raise InputError("the mouth gain curve holds no value; give one a frame, or none at all.")
    check_range(float(curve.min()), 0, 2, "the least value of the mouth gain curve")
    check_range(float(curve.max()), 0, 2, "the largest value of the mouth gain curve")


@dataclass(frozen=True)
class MotionPlan:
    """Compact motion of a whole clip on one face; ``motion.retarget`` turns any span of it into landmarks."""

    reference: LandmarkTrack  # T = 1: the face at rest
    mouth: MouthCurves  # (T,)
    blink: Tensor  # (T,) float32, 0 open .. 1 shut
    brow: Tensor  # (T,) float32, 0 at rest .. 1 raised .. 2 as far as a style may
    head: HeadPose  # (T, …) relative to the reference: angles to add, translation to add, scale 1 = unchanged
    fps: Fraction
    smile: float = 0.0  # how much higher the mouth's corners rest, inter-ocular distances

    def __len__(self) -> int:
        return len(self.mouth)


@dataclass(frozen=True)
class Portrait:
    """A picture and the landmarks of the one face in it that is to speak."""

    picture: Tensor  # (H, W, 3) uint8 RGB
    landmarks: LandmarkTrack  # T = 1, of the same width and height
    source: str = "portrait"  # what to call it in messages

    def __post_init__(self) -> None:
        check_picture(self.picture, self.source)
        height, width = self.picture.shape[:2]
        if len(self.landmarks) != 1 or (self.landmarks.width, self.landmarks.height) != (width, height):
            found = f"{len(self.landmarks)} frames at {self.landmarks.width}×{self.landmarks.height}"
            raise InputError(f"{self.source} needs one frame of landmarks at {width}×{height}, got {found}.")


def check_picture(picture: Tensor, name: str) -> Tensor:
    """Check a streamed picture, (H, W, 3) uint8 RGB, and return it.

    Raises:
        ShapeError: another shape or type.
    """
    check_shape(picture, "H W 3", name)
    if picture.dtype != torch.uint8:
        raise ShapeError(f"{name} must be uint8 (0..255), not {picture.dtype}.")
    return picture
