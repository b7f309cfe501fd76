"""A keypoint track as curves over time that people can read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..types import KeypointTrack
from .keypoint_edit import in_head_axes, rest_expression
from .keypoint_regions import ExpressionBasis, known_basis
from .keypoint_rotation import head_angles

CURVES = ("mouth", "blink", "pitch", "yaw", "roll", "x", "y", "scale")


@dataclass(frozen=True)
class KeypointCurves:
    """What a keypoint track's face does over time, each (T,) float32."""

    mouth: Tensor  # parting of the lips over the distance of the mouth's corners, 0 as in its most closed frames
    blink: Tensor  # 0 as its eyes are open usually .. 1 shut
    pitch: Tensor  # degrees, + looks down
    yaw: Tensor  # degrees, + turns to the viewer's right
    roll: Tensor  # degrees, + clockwise
    x: Tensor  # half crops, to the viewer's right
    y: Tensor  # half crops, down
    scale: Tensor  # of the crop

    def __post_init__(self) -> None:
        for name in CURVES:
            check_finite(check_shape(getattr(self, name), f"{len(self)}", f"the curve {name}"), f"the curve {name}")

    def __len__(self) -> int:
        return len(self.mouth)


def curves_of(track: KeypointTrack, basis: ExpressionBasis | None = None, rest: Tensor | None = None) -> KeypointCurves:
    """Curves of a track's mouth, eyes and head.

    Args:
        track: T frames.
        basis: of a model whose directions were measured. None takes what is known of the layout; of one that is not
            known, the mouth's curve is the expression's strongest movement, in half crops, and nothing blinks.
        rest: (K, 3) expression from which mouth and blink count; None takes the track's `rest_expression`.
    """
    basis = basis or _basis_of(track)
    rest = rest_expression(track, basis) if rest is None else rest
    moved = in_head_axes(track) - rest
    pitch, yaw, roll = head_angles(track).unbind(1)
    mouth, blink = basis.opening(moved).float(), basis.closure(moved).float()
    if not basis.shares and basis.parting.any():
        mouth = mouth - mouth.min()
    x, y = track.translation[:, 0], track.translation[:, 1]
    return KeypointCurves(mouth, blink, pitch, yaw, roll, x, y, track.scale)


def _basis_of(track: KeypointTrack) -> ExpressionBasis:
    try:
        return known_basis(track.layout)
    except InputError:
        return _strongest_movement(track)


def _strongest_movement(track: KeypointTrack) -> ExpressionBasis:
    """The expression's first principal direction, of unit length, as the mouth's: it lowers the keypoints."""
    moved = in_head_axes(track)
    moved = (moved - moved.mean(0)).flatten(1)
    first = torch.linalg.svd(moved, full_matrices=False)[2][0].reshape(-1, 3)
    if not moved.abs().max() > 0:
        first = torch.zeros_like(first)
    first = first * (-1.0 if float(first[:, 1].sum()) < 0 else 1.0)
    return ExpressionBasis(track.layout, first.float(), torch.zeros_like(first).float())
