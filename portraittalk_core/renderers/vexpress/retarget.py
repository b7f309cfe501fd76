"""Retargeting of a driving head's key points to another head by V-Express's four strategies.

Shapes: T frames, P key points, 3 or 8, (x, y) in pixels; three of them are the left eye, the right eye and the nose.
Source: V-Express's public strategies; `docs/design/vexpress.md` 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_choice, check_finite, check_shape
from ...errors import InputError
from .options import STRATEGIES

NOSE = 2  # of three points
TRIPLES = {3: (0, 1, 2), 8: (2, 3, 7)}  # eyes and nose of so many points; of SVP's, the lowest one of the bridge
TINY = 1e-6


def retarget(reference: Tensor, driving: Tensor, strategy: str) -> Tensor:
    """Retargeted key points of every frame.

    The driver is first scaled to the reference's size, sideways by the distance of the eyes, downwards by the nose's
    distance from the line between them, both measured in the frame whose nose stands most alike between the eyes.

    Args:
        reference: (P, 2) of the portrait.
        driving: (T, P, 2) of the driving head; of "fix_face", only T counts.
        strategy: "fix_face" keeps the portrait's points; "no_retarget" takes the driver's as they are;
            "offset_retarget" shifts the portrait's by half of what the driver's nose moved, against it, as the public
            code does; "naive_retarget" takes the scaled driver's, its first nose on the portrait's.

    Returns:
        (T, P, 2) float64.

    Raises:
        InputError: no frames, another strategy, or a driver whose points are in one line or place.
    """
    check_choice(strategy, STRATEGIES, "retarget strategy")
    count = 8 if reference.ndim == 2 and len(reference) == 8 else 3
    reference = check_finite(check_shape(reference, f"{count} 2", "the portrait's key points"), "key points").double()
    driving = check_finite(check_shape(driving, f"T {count} 2", "the driving key points"), "key points").double()
    if not len(driving):
        raise InputError("there are no driving key points (0 frames); give at least one frame.")
    if strategy == "fix_face":
        return reference.repeat(len(driving), 1, 1)
    if strategy == "no_retarget":
        return driving
    triple = list(TRIPLES[count])
    reference_triple, driver = reference[triple], driving[:, triple]
    similar = most_similar_frame(reference_triple, driver)
    size = _size(driver[similar][None])[0]
    if not (size > TINY).all():
        raise InputError(
            f"frame {similar} of the driving video has its eyes and nose in one line or place and shows no size; "
            "choose another driving video, or the strategy fix_face."
        )
    scaled, nose = driving * (_size(reference_triple[None])[0] / size), triple[NOSE]
    moved = scaled[:, nose] - scaled[0, nose]
    if strategy == "offset_retarget":
        return reference - moved[:, None] / 2
    return scaled - (scaled[0, nose] - reference[nose])


def most_similar_frame(reference: Tensor, driving: Tensor) -> int:
    """The first frame of (T, 3, 2) whose ratio of nose-to-eye distances is closest to the reference's (3, 2)."""
    return int((_ratio(driving) - _ratio(reference[None])).abs().argmin())


def _ratio(points: Tensor) -> Tensor:
    """(T,) ratio of the nose's distances to the left and the right eye."""
    left_distance, right_distance = (
        torch.linalg.vector_norm(points[:, eye] - points[:, NOSE], dim=1) for eye in (0, 1)
    )
    return left_distance / (right_distance + TINY)


def _size(points: Tensor) -> Tensor:
    """(T, 2) distance of the eyes, and of the nose from the segment between them."""
    left_eye, right_eye, nose = points.unbind(1)
    eyes = right_eye - left_eye
    squared = (eyes**2).sum(1).clamp(min=TINY**2)
    share = (((nose - left_eye) * eyes).sum(1) / squared).clamp(0, 1)
    nearest = left_eye + share[:, None] * eyes
    norm = torch.linalg.vector_norm
    return torch.stack([norm(eyes, dim=1), norm(nose - nearest, dim=1)], 1)
