"""Editing of keypoint tracks: gain by region, head, blinks, smoothing, blends, another face.

Every function returns a new track; what it does not change stays to the last bit. Expressions are edited in the head's
own axes: the families add them after the head's turn, so that a gain here does the same whichever way the head looks.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_range, check_shape
from ..errors import InputError
from ..types import KeypointTrack
from .blink import blink_curve
from .keypoint_options import SMOOTHERS, KeypointEdit
from .keypoint_regions import EYES, MOUTH, REGIONS, ExpressionBasis, known_basis, region_share
from .keypoint_rotation import angles_of, head_angles, rotation_of, with_head_angles
from .keypoint_time import mixture
from .smoothing import gaussian_smoothing, one_euro_smoothing

CARRIES = ("relative", "absolute")
HEAD = "head"  # rotation, translation and scale, beside the regions of the face
MAX_GAIN = 10.0
CLOSED_SHARE, OPEN_SHARE = 0.05, 0.5  # of the frames: most closed lips, most open eyes, as the face at rest has them
UNIT_EXPRESSION, UNIT_DEG = 0.05, 15.0  # of a lively face, for the one-euro filter's thresholds
GAUSSIAN_S = 0.12  # standard deviation at smoothing 1


def edit_keypoints(track: KeypointTrack, edit: KeypointEdit, basis: ExpressionBasis | None = None) -> KeypointTrack:
    """All edits of the options, in this order: smoothing, gains, added blinks, head.

    Args:
        track: T frames.
        edit: what to change; by default nothing.
        basis: of a model whose regions were measured; None takes what is known of the layout.

    Raises:
        InputError: a region is changed of a layout whose keypoints belong to none by name, and no basis is given.
    """
    result = smoothed(track, edit.smoothing, edit.smoother)
    gains = {region: getattr(edit, f"{region}_gain") for region in REGIONS}
    if len(set(gains.values())) == 1 and basis is None:
        gains = {"all": gains[MOUTH]}
    rest = None
    for region, gain in gains.items():
        if gain != 1:
            rest = rest_expression(result, basis) if rest is None else rest
            result = expression_gain(result, gain, region, rest, basis)
    if edit.blink_rate > 0:
        shut = blink_curve(len(track), track.fps, edit.blink_rate, edit.seed)
        result = with_blinks(result, shut, basis)
    return head_edit(result, edit.head_gain, (edit.pitch_deg, edit.yaw_deg, edit.roll_deg))


def in_head_axes(track: KeypointTrack) -> Tensor:
    """(T, K, 3) float64 expressions with the head's turn taken back."""
    return track.expression.double() @ rotation_of(track.layout, track.rotation_deg)


def with_expression(track: KeypointTrack, in_head: Tensor, changed: Tensor | None = None) -> KeypointTrack:
    """The track with other expressions, (T, K, 3) in the head's axes; only those `changed` (T, K) are taken."""
    turned = in_head.double() @ rotation_of(track.layout, track.rotation_deg).transpose(1, 2)
    new = turned.float()
    return replace(track, expression=new if changed is None else torch.where(changed[..., None], new, track.expression))


def rest_expression(track: KeypointTrack, basis: ExpressionBasis | None = None) -> Tensor:
    """(K, 3) float64 expression of the face at rest, in the head's axes.

    The mouth as in the most closed frames, the eyes as in the most open ones, the rest's median; for a layout whose
    directions are unknown the median of all.
    """
    expressions = in_head_axes(track)[track.valid] if track.valid.any() else in_head_axes(track)
    rest = expressions.median(0).values
    try:
        basis = basis or known_basis(track.layout)
    except InputError:
        return rest
    for region, read, share in ((MOUTH, basis.opening, CLOSED_SHARE), (EYES, basis.closure, OPEN_SHARE)):
        along = read(expressions)
        frames = along.argsort(stable=True)[: max(1, round(share * len(along)))]
        part = basis.shares.get(region, torch.zeros(len(rest)))[:, None].double()
        rest = torch.lerp(rest, expressions[frames].mean(0), part)
    return rest


def expression_gain(
    track: KeypointTrack,
    gain: float | Tensor,
    region: str = "all",
    rest: Tensor | None = None,
    basis: ExpressionBasis | None = None,
) -> KeypointTrack:
    """Expression scaled about the face at rest.

    Args:
        track: T frames.
        gain: 0 the face at rest .. 1 as it is .. more exaggerates; or (T,), one a frame.
        region: "mouth", "eyes", "brows", "rest" or "all".
        rest: (K, 3) the face at rest; None takes `rest_expression`.
        basis: of a model whose regions were measured.

    Raises:
        InputError: a gain below 0, NaN or above 10; a region that the layout does not know.
        ShapeError: as many gains as the track has no frames.
    """
    gains = per_frame(gain, len(track), "the gain")
    share = region_share(track.layout, region, basis).double()
    expressions = in_head_axes(track)
    rest = rest_expression(track, basis) if rest is None else rest.double()
    scale = 1 + (gains.double() - 1)[:, None] * share
    return with_expression(track, rest + scale[..., None] * (expressions - rest), scale != 1)


def head_edit(
    track: KeypointTrack, gain: float | Tensor = 1.0, turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> KeypointTrack:
    """Head motion scaled about its mean, and turned.

    Args:
        track: T frames.
        gain: 0 locks the head .. 1 as it is; or (T,), one a frame. Angles, translation and scale follow it.
        turn_deg: added pitch (down), yaw (to the viewer's right) and roll (clockwise), degrees.

    Raises:
        InputError: a gain below 0, NaN or above 10; an angle that is not finite.
    """
    gains = per_frame(gain, len(track), "the head's gain")
    turn = check_finite(torch.tensor(turn_deg, dtype=torch.float32), "the head's turn")
    if bool((gains == 1).all()) and not turn.any():
        return track
    valid = track.valid if track.valid.any() else torch.ones_like(track.valid)

    def scaled(values: Tensor) -> Tensor:
        middle = values[valid].mean(0).expand_as(values)
        return torch.lerp(middle, values, gains.reshape(-1, *[1] * (values.ndim - 1)))

    result = with_head_angles(track, scaled(head_angles(track)) + turn)
    scale = torch.where(gains == 1, track.scale, scaled(track.scale.log()).exp())
    return replace(result, translation=scaled(track.translation), scale=scale)


def with_blinks(track: KeypointTrack, shut: Tensor, basis: ExpressionBasis | None = None) -> KeypointTrack:
    """Blinks added.

    Args:
        track: T frames.
        shut: (T,) 0 as the track has the eyes .. 1 shut, such as `blink.blink_curve`.
        basis: its direction `shutting` is added; None takes the layout's own.

    Raises:
        InputError: a layout whose directions are unknown, and no basis.
    """
    shut = per_frame(check_shape(shut, "T", "the blinks"), len(track), "the blinks", 1.0)
    basis = basis or known_basis(track.layout)
    closure = basis.closure(in_head_axes(track) - rest_expression(track, basis)).clamp(0, 1)
    return added(track, shut * (1 - closure), basis.shutting)  # eyes that are shut already shut no further


def added(track: KeypointTrack, amount: Tensor, direction: Tensor) -> KeypointTrack:
    """A direction (K, 3) added to the expression, (T,) times; in the head's axes."""
    moved = amount.double()[:, None, None] * direction.double()
    return with_expression(track, in_head_axes(track) + moved, (moved != 0).any(-1))


def smoothed(track: KeypointTrack, strength: float, smoother: str = "one-euro") -> KeypointTrack:
    """Expression and head smoothed over time, without lag.

    Args:
        track: T frames.
        strength: 0 changes nothing .. 1 strong.
        smoother: "one-euro" keeps fast motion and calms slow; "gaussian" calms all alike.
    """
    check_range(strength, 0, 1, "smoothing")
    check_choice(smoother, SMOOTHERS, "the smoother")
    if strength == 0:
        return track
    rotation = rotation_of(track.layout, track.rotation_deg)
    angles = _unwrapped(head_angles(track))
    parts = [in_head_axes(track).float().flatten(1) / UNIT_EXPRESSION, angles / UNIT_DEG]
    parts += [track.translation / UNIT_EXPRESSION, track.scale.log()[:, None] / UNIT_EXPRESSION]
    signal = torch.cat(parts, 1)
    if smoother == "one-euro":
        calm = one_euro_smoothing(signal, track.fps, strength)
    else:
        sigma = GAUSSIAN_S * strength * float(track.fps)
        calm = torch.stack([gaussian_smoothing(curve, sigma) for curve in signal.T], 1)
    expression, head, place, scale = calm.split([part.shape[1] for part in parts], 1)
    in_head = (expression * UNIT_EXPRESSION).reshape(track.expression.shape).double()
    still = replace(track, expression=(in_head @ rotation.transpose(1, 2)).float())
    turned = with_head_angles(still, _wrapped(head * UNIT_DEG))
    return replace(turned, translation=place * UNIT_EXPRESSION, scale=(scale[:, 0] * UNIT_EXPRESSION).exp())


def blended(first: KeypointTrack, second: KeypointTrack, weight: float | Tensor) -> KeypointTrack:
    """Two tracks of one length mixed.

    Args:
        first: T frames.
        second: T frames, of the same layout and rate.
        weight: 0 the first .. 1 the second; or (T,), one a frame.

    Raises:
        InputError: they differ in layout, rate or length; a weight outside 0..1.
    """
    check_alike(first, second)
    weights = per_frame(weight, len(first), "the weight of a blend", 1.0)
    return mixture(first, second, weights)


def composed(
    track: KeypointTrack,
    other: KeypointTrack,
    parts: tuple[str, ...],
    basis: ExpressionBasis | None = None,
) -> KeypointTrack:
    """A track with some parts of another one, such as another engine's mouth.

    Args:
        track: T frames.
        other: T frames, of the same layout and rate.
        parts: what is the other's: "mouth", "eyes", "brows", "rest", "head" (rotation, translation and scale).
        basis: of a model whose regions were measured.

    Raises:
        InputError: they differ in layout, rate or length; an unknown part.
    """
    check_alike(track, other)
    for part in parts:
        check_choice(part, (*REGIONS, HEAD), "the part of a keypoint track")
    ours, target = in_head_axes(track), in_head_axes(other)
    share = torch.zeros(track.num_keypoints)
    for part in parts:
        if part != HEAD:
            share = share + region_share(track.layout, part, basis)
    head = other if HEAD in parts else track
    moved = (share > 0).expand(len(track), -1) if head is track else None
    valid = track.valid & other.valid if parts else track.valid
    mixed = torch.lerp(ours, target, share.clamp(0, 1)[:, None].double())
    return replace(with_expression(replace(head, expression=track.expression), mixed, moved), valid=valid)


def carry(
    track: KeypointTrack, source: KeypointTrack, neutral: KeypointTrack | None = None, mode: str = "relative"
) -> KeypointTrack:
    """The motion of one face on another.

    Args:
        track: T frames of the driving face.
        source: one frame: how the face that is to move stands and looks in its picture.
        neutral: one frame of the driving face that corresponds to `source`; None takes the track's first seen one.
        mode: "relative" adds to the source what the driving face does since `neutral`, turns in the head's own axes;
            "absolute" takes head and expression of the driving face, and keeps the source's size.

    Raises:
        InputError: another layout; `source` or `neutral` of several frames.

    Source: LivePortrait's relative and absolute motion (public code), without its reset of depth.
    """
    check_choice(mode, CARRIES, "how a motion is carried to another face")
    neutral = first_seen(track) if neutral is None else neutral
    for frame, name in ((source, "source"), (neutral, "neutral")):
        frame.check_layout(track.layout)
        if len(frame) != 1:
            raise InputError(f"{name} must be one frame of keypoints, not {len(frame)}; give one frame of it.")
    if mode == "absolute":
        return replace(track, scale=source.scale.expand(len(track)).clone())
    turns = [rotation_of(track.layout, frame.rotation_deg) for frame in (track, neutral, source)]
    return replace(
        track,
        expression=source.expression + (track.expression - neutral.expression),
        rotation_deg=angles_of(track.layout, turns[2] @ turns[1].transpose(1, 2) @ turns[0]),
        translation=source.translation + (track.translation - neutral.translation),
        scale=source.scale * (track.scale / neutral.scale),
    )


def first_seen(track: KeypointTrack) -> KeypointTrack:
    """The first frame in which the face was seen, as a track of one frame; the first where it never was."""
    first = int(track.valid.int().argmax())
    return track.slice(first, first + 1)


def check_alike(first: KeypointTrack, second: KeypointTrack) -> None:
    """Check that two tracks have one layout, frame rate and length.

    Raises:
        InputError: with both, and what to do.
    """
    second.check_layout(first.layout)
    if (first.fps, len(first)) != (second.fps, len(second)):
        sizes = " and ".join(f"{len(track)} frames at {float(track.fps):g} fps" for track in (first, second))
        raise InputError(f"these keypoint tracks do not fit together: {sizes}; resample one, then cut or extend it.")


def per_frame(value: float | Tensor, num_frames: int, name: str, high: float = MAX_GAIN) -> Tensor:
    """(T,) float32 of one number, or of one a frame, each within 0..high.

    Raises:
        InputError: NaN, or a number outside the range.
        ShapeError: as many numbers as there are no frames.
    """
    if not isinstance(value, Tensor):
        return torch.full((num_frames,), float(check_range(value, 0, high, name)))
    values = check_finite(check_shape(value, f"{num_frames}", name), name).float()
    check_range(float(values.min()), 0, high, f"the least value of {name}")
    check_range(float(values.max()), 0, high, f"the largest value of {name}")
    return values


def _unwrapped(angles: Tensor) -> Tensor:
    """(T, 3) angles without jumps of 360 degrees."""
    steps = torch.diff(angles, dim=0)
    jumps = torch.round(steps / 360) * 360
    return torch.cat([angles[:1], angles[1:] - jumps.cumsum(0)]) if len(angles) > 1 else angles


def _wrapped(angles: Tensor) -> Tensor:
    return angles - torch.round(angles / 360) * 360
