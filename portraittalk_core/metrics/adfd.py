"""ADFD: how well generated landmarks follow the true ones, in place and in motion.

Source: PortraitTalk, equation 3. The printed formula mixes pixels with squared pixels, gives 0.5 for identical motion
and divides by zero without motion; the default here is the reading its text asks for, in 0..1, and ``printed=True``
gives the formula as printed.

Shapes: T frames, N landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_shape
from ..errors import InputError
from ..types import LandmarkTrack
from .landmark_distance import FACE_POINTS
from .meter import Meter, MetricContext, check_enough, common_px

MIN_MOTION = 1e-8  # motion vectors shorter than this count as no motion
WEIGHTINGS = ("product", "power")
DIAGONALS = ("image", "target")


@dataclass(frozen=True)
class ADFDResult:
    """The score and what it is made of."""

    score: float  # 1 is perfect
    spatial: float  # S: how near the landmarks lie
    motion: float  # C: how alike they move from frame to frame
    num_frames: int
    spatial_per_frame: Tensor  # (T,) float64
    motion_per_frame: Tensor  # (T − 1,) float64


def adfd(
    generated_px: Tensor,
    target_px: Tensor,
    image_size: Sequence[int],
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    weighting: str = "product",
    diagonal: str = "image",
    printed: bool = False,
) -> ADFDResult:
    """Score generated landmarks against true ones.

    Args:
        generated_px: (T, N, 2) pixels.
        target_px: (T, N, 2) pixels.
        image_size: (H, W) pixels, both above 0.
        weights: w1 of the spatial and w2 of the motion part, 0 or more each.
        weighting: "product" is w1·S·w2·C, "power" is S^w1·C^w2.
        diagonal: errors count relative to the "image" diagonal, or to the greatest distance between two landmarks of
            the "target".
        printed: the formula as printed, for the record: unbounded below, 0.5008 for identical motion of 3 px a frame.

    Raises:
        InputError: shapes that do not fit, values that are not numbers, or `printed` with a frame without motion.
    """
    if weighting == "printed":
        weighting, printed = "product", True
    check_choice(weighting, WEIGHTINGS, "weighting")
    check_choice(diagonal, DIAGONALS, "diagonal")
    w1, w2 = _two_numbers(weights, "weights", "(w1, w2), 0 or more each")
    generated, target = _as_landmarks(generated_px, "generated_px"), _as_landmarks(target_px, "target_px")
    if generated.shape != target.shape:
        raise InputError(
            f"generated landmarks {tuple(generated.shape)} and true ones {tuple(target.shape)} must have the same "
            "shape; cut the longer track first."
        )
    d = _image_diagonal(image_size) if diagonal == "image" else _widest(target)
    difference = generated - target
    m, m_true = _steps(generated), _steps(target)
    if printed:
        spatial = 1 - (difference.square().sum((1, 2)) / d).sqrt()
        motion = _printed_motion(m, m_true)
    else:
        spatial = (1 - difference.square().sum(2).mean(1).sqrt() / d).clamp(min=0)
        motion = _cosine_share(m, m_true)
    s = float(spatial.mean())
    c = float(motion.mean()) if len(motion) else 1.0
    score = s**w1 * c**w2 if weighting == "power" else w1 * s * w2 * c
    return ADFDResult(score, s, c, len(target), spatial, motion)


def _as_landmarks(points: Tensor, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(points).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be landmarks of shape (T, N, 2), not {type(points).__name__}.") from error
    check_shape(tensor, "T N 2", name)
    if 0 in tensor.shape:
        raise InputError(f"{name} is empty, {tuple(tensor.shape)}; at least one frame with one landmark is needed.")
    return check_finite(tensor, name)


def _image_diagonal(image_size: Sequence[int]) -> float:
    expected = "(height, width) in pixels, both above 0"
    height, width = _two_numbers(image_size, "image_size", expected)
    if min(height, width) == 0:
        raise InputError(f"image_size must be {expected}, not {image_size!r}.")
    return math.hypot(height, width)


def _two_numbers(pair: Sequence[float], name: str, expected: str) -> tuple[float, float]:
    try:
        first, second = (float(number) for number in pair)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be {expected}, not {pair!r}.") from error
    if not (0 <= first < math.inf and 0 <= second < math.inf):
        raise InputError(f"{name} must be {expected}, not {pair!r}.")
    return first, second


def _widest(target: Tensor) -> float:
    widest = max(float(torch.cdist(frame, frame).max()) for frame in target)
    if widest <= 0:
        raise InputError("all true landmarks lie on one point; use diagonal='image'.")
    return widest


def _steps(points: Tensor) -> Tensor:
    """(T − 1, 2N) displacement of each landmark from each frame to the next."""
    return (points[1:] - points[:-1]).flatten(1)


def _cosine_share(m: Tensor, m_true: Tensor) -> Tensor:
    """(T − 1,) (cos + 1) / 2 of the motion vectors; both static is 1, only one static is ½."""
    square, square_true = m.square().sum(1), m_true.square().sum(1)
    static, static_true = square.sqrt() < MIN_MOTION, square_true.sqrt() < MIN_MOTION
    # one root of the product, not a product of roots: equal motions then give 1 exactly
    cosine = (m * m_true).sum(1) / (square * square_true).sqrt().clamp(min=MIN_MOTION**2)
    cosine = torch.where(static | static_true, torch.zeros_like(cosine), cosine.clamp(-1, 1))
    cosine = torch.where(static & static_true, torch.ones_like(cosine), cosine)
    return (cosine + 1) / 2


def _printed_motion(m: Tensor, m_true: Tensor) -> Tensor:
    lengths = m.norm(dim=1) * m_true.norm(dim=1)
    if not len(m) or bool((lengths < MIN_MOTION**2).any()):
        raise InputError("the printed ADFD divides by the motion, and there is a frame without any; use printed=False.")
    return ((m * m_true).sum(1) + 1) / (2 * lengths)


class AdfdMeter(Meter):
    """ADFD and its two parts over the frames that show the face in both; motion is from each of them to the next."""

    def __init__(self, _context: MetricContext) -> None:
        self._last: tuple[Tensor, Tensor] | None = None  # pixels (1, 468, 2) of the last such frame
        self._place: list[Tensor] = []
        self._motion: list[Tensor] = []

    def update(self, generated: LandmarkTrack, target: LandmarkTrack) -> None:
        """Add the next frames of both."""
        both = generated.valid & target.valid
        place, motion = torch.full((2, len(both)), torch.nan, dtype=torch.float64)
        if both.any():
            pixels = [points[:, : len(FACE_POINTS)] for points in common_px(generated, target, both)]
            joins = 0 if self._last is None else 1
            joined = [torch.cat([last, new]) for last, new in zip(self._last, pixels, strict=True)] if joins else pixels
            score = adfd(*joined, (target.height, target.width))
            frames = both.nonzero()[:, 0]
            place[frames] = score.spatial_per_frame[joins:]
            motion[frames[1 - joins :]] = score.motion_per_frame
            self._last = tuple(points[-1:] for points in pixels)
        self._place.append(place)
        self._motion.append(motion)

    def result(self) -> dict[str, float]:
        """The score and its parts.

        Raises:
            InputError: fewer than two frames show the face in both.
        """
        place, motion = (values[~values.isnan()] for values in self.curves().values())
        place, motion = check_enough(place).mean(), motion.mean()
        return {"adfd": float(place * motion), "adfd_place": float(place), "adfd_motion": float(motion)}

    def curves(self) -> dict[str, Tensor]:
        """Both parts, (T,) float64 each; motion stands at the later frame of its step."""
        parts = {"adfd_place": self._place, "adfd_motion": self._motion}
        return {name: torch.cat(values) if values else torch.zeros(0) for name, values in parts.items()}
