"""Landmark distance (LMD): distance of generated landmarks to the true ones.

Shapes: T frames, N landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_range, check_shape
from ..errors import InputError
from ..face import topology as topo
from ..face.geometry import interocular_px
from .meter import LandmarkMean, MeterFactory
from .points68 import MOUTH_20, to_68

KINDS = ("euclid_centred", "euclid_sum", "l1_raw", "euclid_raw")
NORMS = ("none", "interocular", "face_size")

MOUTH_POINTS = tuple(
    dict.fromkeys(
        (*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[::-1], *topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP[::-1])
    )
)
"""40 points of the outer and inner lip contours, MediaPipe's counterpart of the 20 mouth points of the 68."""
FACE_POINTS = tuple(range(topo.NUM_MESH_POINTS))
POINTS = {"mouth": MOUTH_POINTS, "face": FACE_POINTS}


@dataclass(frozen=True)
class LandmarkVariant:
    """How one family of papers measures landmark distance on 68 points."""

    kind: str  # of KINDS
    points: tuple[int, ...]  # of the 68
    side_px: int | None  # what the face crop's side is scaled to; None keeps the pixels as they are
    source: str


VARIANTS = {
    "m_lmd": LandmarkVariant("euclid_centred", MOUTH_20, 256, "ControlTalk, SVP: M-LMD"),
    "f_lmd": LandmarkVariant("euclid_centred", tuple(range(68)), 256, "ControlTalk, SVP: F-LMD"),
    "lmd_atvg": LandmarkVariant("euclid_sum", MOUTH_20, None, "ATVG-Net: LMD"),
    "lmd_lip": LandmarkVariant("l1_raw", MOUTH_20, None, "IP-LAP: LipLMD"),
}
"""By the names of `registry.METRICS`."""


def lmd(
    generated_px: Tensor,
    target_px: Tensor,
    kind: str = "euclid_centred",
    points: str | Sequence[int] = "all",
    norm: str = "none",
    velocity: bool = False,
) -> Tensor:
    """Distance between two sets of landmarks, frame by frame.

    Args:
        generated_px: (T, N, 2) pixels.
        target_px: (T, N, 2) pixels.
        kind: "euclid_centred" subtracts each set's centroid, then averages Euclidean distances (M-LMD and F-LMD as
            ControlTalk and SVP use them); "euclid_sum" adds those distances up instead (ATVG); "euclid_raw" does not
            subtract; "l1_raw" averages |dx| and |dy| (IP-LAP).
        points: which landmarks to compare: "all" that were given; of MediaPipe's 478 (or 468) the "mouth" (M-LMD) or
            the "face" (F-LMD, all but the irises); or their numbers.
        norm: "interocular" divides by the true distance between the eyes, "face_size" by the diagonal of the true
            face's box, both times 100: a percentage free of resolution. Needs MediaPipe's landmarks.
        velocity: compare the steps from frame to frame instead of the places.

    Returns:
        (T,) float64, (T − 1,) with `velocity`: pixels, or percent with a norm.

    Raises:
        InputError: shapes that do not fit, values that are not numbers, or landmarks that are not MediaPipe's where
            they must be.
    """
    check_choice(kind, KINDS, "kind")
    check_choice(norm, NORMS, "norm")
    generated = check_finite(check_shape(generated_px, "T N 2", "generated_px"), "generated_px").double()
    target = check_finite(check_shape(target_px, "T N 2", "target_px"), "target_px").double()
    if generated.shape != target.shape or 0 in target.shape:
        raise InputError(f"landmarks of shapes {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    size = _size(target, norm)
    index = _point_indices(points, target.shape[1])
    generated, target = generated[:, index], target[:, index]
    if kind in ("euclid_centred", "euclid_sum"):
        generated, target = generated - generated.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    difference = generated - target
    if velocity:
        difference, size = difference[1:] - difference[:-1], size[1:]
    distance = difference.abs().mean((1, 2)) if kind == "l1_raw" else difference.norm(dim=2).mean(1)
    if kind == "euclid_sum":
        distance = distance * len(index)
    return distance if norm == "none" else 100 * distance / size.clamp(min=1e-6)


def lmd_variant(name: str, generated_px: Tensor, target_px: Tensor, side_px: float) -> Tensor:
    """Landmark distance as a family of papers measures it, on the 68 points read off MediaPipe's mesh.

    Args:
        name: of VARIANTS.
        generated_px: (T, 468 or 478, 2 or 3) pixels of the face crop.
        target_px: the same shape, of the same crop.
        side_px: the face crop's side in those pixels.

    Returns:
        (T,) float64 pixels: of a crop of 256×256 for "m_lmd" and "f_lmd", of the crop as it is for the others.

    Raises:
        InputError: another name, or landmarks that do not fit.

    Source: `docs/design/metrics.md` 1; the mapping of points, `points68`.
    """
    check_choice(name, VARIANTS, "the landmark variant")
    check_range(side_px, 1, 65_536, "the side of the face crop")
    variant = VARIANTS[name]
    scale = 1.0 if variant.side_px is None else variant.side_px / side_px
    generated, target = (to_68(points)[..., :2].double() * scale for points in (generated_px, target_px))
    return lmd(generated, target, variant.kind, variant.points)


def _point_indices(points: str | Sequence[int], num_given: int) -> list[int]:
    if isinstance(points, str):
        check_choice(points, ("all", *POINTS), "points")
        if points == "all":
            return list(range(num_given))
        _check_mediapipe(num_given, f"points={points!r}")
        return list(POINTS[points])
    indices = [int(number) for number in points]
    if not indices or min(indices) < 0 or max(indices) >= num_given:
        raise InputError(f"points must be numbers from 0 to {num_given - 1}, at least one, not {indices}.")
    return indices


def _size(face_px: Tensor, norm: str) -> Tensor:
    """(T,) length that distances are normalised by, in pixels."""
    if norm == "none":
        return torch.ones(len(face_px), dtype=torch.float64)
    _check_mediapipe(face_px.shape[1], f"norm={norm!r}")
    if norm == "interocular":
        return interocular_px(face_px)
    return torch.linalg.vector_norm(face_px.amax(1) - face_px.amin(1), dim=1)


def _check_mediapipe(num_given: int, what_for: str) -> None:
    if num_given not in (topo.NUM_MESH_POINTS, topo.NUM_MESH_POINTS + 10):
        raise InputError(f"{what_for} needs the whole face, MediaPipe's 468 or 478 landmarks; {num_given} were given.")


def variant_mean(name: str) -> MeterFactory:
    """For the registry: the mean over frames of a variant, as `lmd_variant`."""
    return lambda context: LandmarkMean(lambda points, true: lmd_variant(name, points, true, context.face_side_px))
