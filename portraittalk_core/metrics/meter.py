"""Meters: incremental measurement of metrics, part by part of one kind of input.

Shapes: T frames of a video or pair, K frames of a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import InputError
from ..types import LandmarkTrack

FRAMES = "frames"  # update(picture): every picture (H, W, 3) uint8 of one video, in order
FRAME_PAIRS = "frame pairs"  # update(generated, target): pictures of one size, cut to the face where that is asked for
SOURCE_FRAME_PAIRS = "source frame pairs"  # the same, uncut and each at its own size
LANDMARKS = "landmarks"  # update(track): the next K frames of one video
LANDMARK_PAIRS = "landmark pairs"  # update(generated, target): tracks of the same K frames
CURVES = "curves"  # update(curves): `FaceCurves` of one whole video, once
FACE_CROPS = "face crops"  # update(picture): SyncNet's crop of one video, (224, 224, 3) uint8 at 25 fps
INPUTS = (FRAMES, FRAME_PAIRS, SOURCE_FRAME_PAIRS, LANDMARKS, LANDMARK_PAIRS, CURVES, FACE_CROPS)
PAIRED = (FRAME_PAIRS, SOURCE_FRAME_PAIRS, LANDMARK_PAIRS)

MIN_PAIRED = 2  # frames with a face in both; fewer show no motion


@dataclass(frozen=True)
class MetricContext:
    """Context of a meter: what it may use besides its input."""

    fps: Fraction  # of the input
    size: tuple[int, int]  # height and width of the video, of a pair the target's, pixels
    num_frames: int = 0  # of the input, where it is known before
    face_side_px: float | None = None  # side of the square around all places of the target's face; None: no face
    network: object = None  # what the registry's row opens
    encode_face: Callable[[Tensor], Tensor] | None = None  # (H, W, 3) uint8 → (D,); raises NoFaceError
    portrait: Tensor | None = None  # (D,) embedding of who it should be
    waveform: Callable[[], Tensor] | None = None  # (N,) at 16 kHz; raises InputError where there is no sound


@dataclass(frozen=True)
class FaceCurves:
    """Time series of one video's face and pictures."""

    fps: Fraction
    valid: Tensor  # (T,) bool: a face was tracked
    mouth_open: Tensor  # (T,) float32, NaN without a face
    eye_open: Tensor  # (T,) float32, NaN without a face
    angles_deg: Tensor  # (T, 3) float32, NaN without a face
    picture_change: Tensor  # (T − 1,) float64: mean absolute difference to the picture before, grey levels 0..255
    sound_level: Tensor | None = None  # (M,) float64 decibels of full scale, 100 a second
    no_sound: str = "the video has no sound track"  # why there is no level


class Meter:
    """Measures one metric, or some that share their work, in memory that does not grow with the pictures."""

    def update(self, *items: object) -> None:
        """Add the next part of the input that the registry's row names.

        Raises:
            InputError: the metric cannot be measured on this input, and why.
            MissingDependency: a package is absent.
        """
        raise NotImplementedError

    def result(self) -> float | Mapping[str, float]:
        """The number, or of a meter of several metrics numbers by the metrics' names.

        Raises:
            InputError: nothing could be measured, and why.
        """
        raise NotImplementedError

    def curves(self) -> Tensor | Mapping[str, Tensor]:
        """(T,) values over time, NaN where unknown, named as in `result`; empty where there are none."""
        return {}


MeterFactory = Callable[[MetricContext], Meter]


class FrameMean(Meter):
    """Mean of a metric that is measured frame by frame; unknown and infinite frames are left out.

    Args:
        measure: of one frame, or a pair of frames, to its value; None or NaN where it cannot be measured.
        identical: value of two equal frames, which are not measured then; None measures them too.
    """

    def __init__(self, measure: Callable[..., float | None], identical: float | None = None) -> None:
        self.measure, self.identical = measure, identical
        self.values: list[float] = []  # of every frame, NaN where unknown

    def update(self, *items: Tensor) -> None:
        """Measure the next frame or pair of frames."""
        if self.identical is not None and torch.equal(*items):
            self.values.append(self.identical)
            return
        value = self.measure(*items)
        self.values.append(math.nan if value is None else float(value))

    def result(self) -> float:
        """Mean over the measured frames; infinity where all of those are infinite.

        Raises:
            InputError: no frame was measured.
        """
        values = self.curves()
        finite = values[values.isfinite()]
        if len(finite):
            return float(finite.mean())
        if values.isinf().any():
            return math.inf
        raise InputError(f"none of {len(values)} frames could be measured")

    def curves(self) -> Tensor:
        """(T,) float64."""
        return torch.tensor(self.values, dtype=torch.float64)


class LandmarkMean(Meter):
    """Mean over the frames that show the face in both of a distance between their landmarks.

    Args:
        measure: (K, 478, 2) float64 pixels of the generated and of the target's landmarks to (K,).
    """

    def __init__(self, measure: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.measure = measure
        self._parts: list[Tensor] = []

    def update(self, generated: LandmarkTrack, target: LandmarkTrack) -> None:
        """Measure the next frames of both."""
        both = generated.valid & target.valid
        values = torch.full((len(both),), torch.nan, dtype=torch.float64)
        if both.any():
            values[both] = self.measure(*common_px(generated, target, both))
        self._parts.append(values)

    def result(self) -> float:
        """Mean over frames.

        Raises:
            InputError: fewer than two frames show the face in both.
        """
        values = self.curves()
        return float(check_enough(values[~values.isnan()]).mean())

    def curves(self) -> Tensor:
        """(T,) float64, NaN without a face in both."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, dtype=torch.float64)


class Once(Meter):
    """Meter of a metric whose input comes whole.

    Args:
        measure: the input to its value; raises InputError where there is none.
    """

    def __init__(self, measure: Callable[..., float | Mapping[str, float]]) -> None:
        self.measure = measure
        self._items: tuple[object, ...] | None = None

    def update(self, *items: object) -> None:
        """Set the input."""
        self._items = items

    def result(self) -> float | Mapping[str, float]:
        """The value.

        Raises:
            InputError: there was no input, or as `measure`.
        """
        if self._items is None:
            raise InputError("there was nothing to measure")
        return self.measure(*self._items)


def frame_mean(measure: Callable[..., float | None], identical: float | None = None) -> MeterFactory:
    """For the registry: the mean over frames of a function of one frame or one pair, as `FrameMean`."""
    return lambda _context: FrameMean(measure, identical)


def landmark_mean(measure: Callable[[Tensor, Tensor], Tensor]) -> MeterFactory:
    """For the registry: the mean over frames of a distance of landmarks, as `LandmarkMean`."""
    return lambda _context: LandmarkMean(measure)


def once(measure: Callable[..., float | Mapping[str, float]]) -> MeterFactory:
    """For the registry: a function of the whole input, such as `FaceCurves`."""
    return lambda _context: Once(measure)


def common_px(generated: LandmarkTrack, target: LandmarkTrack, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Landmarks of both in pixels of the target.

    Args:
        generated: K frames.
        target: K frames.
        frames: (K,) bool, which of them.

    Returns:
        Two of (N, 478, 2) float64.
    """
    size = torch.tensor([target.width, target.height], dtype=torch.float64)
    return tuple(track.points[frames, :, :2].double() * size for track in (generated, target))


def check_enough(values: Tensor) -> Tensor:
    """The values themselves, one a frame with a face in both.

    Raises:
        InputError: fewer than two.
    """
    if len(values) < MIN_PAIRED:
        raise InputError(f"fewer than {MIN_PAIRED} frames show the face in both")
    return values
