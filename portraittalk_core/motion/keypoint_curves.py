"""A keypoint track as curves over time that people can read and change, and the track of changed curves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..types import KeypointTrack
from .keypoint_edit import added, in_head_axes, rest_expression
from .keypoint_regions import ExpressionBasis, known_basis
from .keypoint_rotation import head_angles, with_head_angles

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


def with_curves(
    track: KeypointTrack, curves: KeypointCurves, basis: ExpressionBasis | None = None, rest: Tensor | None = None
) -> KeypointTrack:
    """The track whose curves are others; what they do not show stays.

    Args:
        track: T frames.
        curves: of T frames, as `curves_of(track, basis, rest)` gives them, changed.
        basis: as for `curves_of`.
        rest: as for `curves_of`; give the same to both to read back what was set.

    Raises:
        InputError: curves of another length, or a scale that is not above 0.
    """
    if len(curves) != len(track):
        raise InputError(f"the curves have {len(curves)} frames, the keypoint track {len(track)}; give curves of it.")
    if float(curves.scale.min()) <= 0:
        raise InputError(f"the curve scale must stay above 0, but falls to {float(curves.scale.min()):g}.")
    basis = basis or _basis_of(track)
    old = curves_of(track, basis, rest)
    result = added(track, curves.mouth - old.mouth, basis.parting)
    result = added(result, curves.blink - old.blink, basis.shutting)
    head, was = (torch.stack([c.pitch, c.yaw, c.roll], 1) for c in (curves, old))
    if not torch.equal(head, was):
        result = with_head_angles(result, head)
    place = torch.stack([curves.x, curves.y, track.translation[:, 2]], 1)
    return replace(result, translation=place, scale=curves.scale)


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
