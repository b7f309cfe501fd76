"""Landmark distance (LMD): how far generated landmarks lie from the true ones.

Shapes: T frames, N landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_shape
from ..errors import InputError
from ..face import topology as topo
from ..face.geometry import interocular_px

KINDS = ("euclid_centred", "l1_raw", "euclid_raw")
NORMS = ("none", "interocular", "face_size")

MOUTH_POINTS = tuple(
    dict.fromkeys(
        (*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[::-1], *topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP[::-1])
    )
)
"""40 points of the outer and inner lip contours, MediaPipe's counterpart of the 20 mouth points of the 68."""
FACE_POINTS = tuple(range(topo.NUM_MESH_POINTS))


def landmark_distance(
    generated_px: Tensor,
    target_px: Tensor,
    kind: str = "euclid_centred",
    norm: str = "none",
    reference_px: Tensor | None = None,
) -> Tensor:
    """Distance between two sets of landmarks, frame by frame.

    Args:
        generated_px: (T, N, 2) pixels.
        target_px: (T, N, 2) pixels.
        kind: "euclid_centred" subtracts each set's centroid, then averages Euclidean distances (M-LMD and F-LMD as
            ControlTalk and SVP use them); "euclid_raw" does not subtract; "l1_raw" averages |dx| and |dy| (IP-LAP).
        norm: "interocular" divides by the distance between the eyes, "face_size" by the diagonal of the face's box,
            both times 100, so that the result is a percentage free of resolution.
        reference_px: (T, 478, 2) the whole true face that `norm` measures; needed where norm is not "none".

    Returns:
        (T,) float64: pixels, or percent with a norm.

    Raises:
        InputError: shapes that do not fit, or values that are not numbers.
    """
    check_choice(kind, KINDS, "kind")
    check_choice(norm, NORMS, "norm")
    generated = check_finite(check_shape(generated_px, "T N 2", "generated_px"), "generated_px").double()
    target = check_finite(check_shape(target_px, "T N 2", "target_px"), "target_px").double()
    if generated.shape != target.shape:
        raise InputError(f"landmarks of shapes {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    if kind == "euclid_centred":
        generated, target = generated - generated.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    difference = generated - target
    distance = difference.abs().mean((1, 2)) if kind == "l1_raw" else difference.norm(dim=2).mean(1)
    if norm == "none":
        return distance
    if reference_px is None:
        raise InputError(f"norm={norm!r} needs reference_px, the whole true face (T, 478, 2).")
    check_shape(reference_px, f"{len(target)} 478 2", "reference_px")
    return 100 * distance / _size(reference_px.double(), norm).clamp(min=1e-6)


def _size(face_px: Tensor, norm: str) -> Tensor:
    if norm == "interocular":
        return interocular_px(face_px)
    return torch.linalg.vector_norm(face_px.amax(1) - face_px.amin(1), dim=1)
