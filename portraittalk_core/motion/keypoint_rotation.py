"""Head rotation in the angle conventions of keypoint families, and in our own (`types.HeadPose`).

All count x to the viewer's right, y down, z away from the viewer; a matrix turns columns. The families differ in the
order of their turns, and face-vid2vid's code has 3.14 for π. Their yaw grows as the head turns to the viewer's left,
ours to the right; pitch (down) and roll (clockwise) grow alike.

Source of the orders: the public code of LivePortrait and face-vid2vid. Source of the signs: LivePortrait's angles in
its public motion templates d1, d5, d7 and d8 against our mesh's on the same films (correlation of pitch .50 to .85,
yaw −.54 to −.93, roll up to .93); for face-vid2vid, the geometry of its matrices.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..checks import check_shape
from ..face.geometry import rotation_matrix
from ..types import KeypointTrack

# radians that each family's code takes for 180 degrees
_HALF_TURN = {"liveportrait-21": math.pi, "face-vid2vid-15": 3.14}


def rotation_of(layout: str, angles_deg: Tensor) -> Tensor:
    """(T, 3, 3) float64 rotations of a layout's (T, 3) pitch, yaw, roll in degrees.

    liveportrait-21: roll · yaw · pitch. face-vid2vid-15: pitch · yaw · roll, with 3.14 for π.
    """
    pitch, yaw, roll = (angles_deg.double() * (_HALF_TURN[layout] / 180)).unbind(-1)
    about_x = _turn(pitch, 1, 2)
    about_y = _turn(yaw, 2, 0)
    about_z = _turn(roll, 0, 1)
    if layout == "liveportrait-21":
        return about_z @ about_y @ about_x
    return about_x @ about_y @ about_z


def angles_of(layout: str, rotation: Tensor) -> Tensor:
    """(T, 3) float32 pitch, yaw, roll in degrees of a layout's (T, 3, 3) rotations; inverse of `rotation_of`."""
    if layout == "liveportrait-21":
        yaw = torch.asin((-rotation[:, 2, 0]).clamp(-1, 1))
        pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
        roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    else:
        yaw = torch.asin(rotation[:, 0, 2].clamp(-1, 1))
        pitch = torch.atan2(-rotation[:, 1, 2], rotation[:, 2, 2])
        roll = torch.atan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    angles = torch.stack([pitch, yaw, roll], 1) * (180 / _HALF_TURN[layout])
    return angles.float().clamp(-180, 180)


def head_angles(track: KeypointTrack) -> Tensor:
    """(T, 3) pitch (+ looks down), yaw (+ turns to the viewer's right), roll (+ clockwise), degrees."""
    rotation = rotation_of(track.layout, track.rotation_deg)
    yaw = torch.asin(rotation[:, 2, 0].clamp(-1, 1))
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return torch.rad2deg(torch.stack([pitch, yaw, roll], 1)).float()


def with_head_angles(track: KeypointTrack, head_deg: Tensor) -> KeypointTrack:
    """The track with the head turned to other angles; its expression turns with it.

    Args:
        track: T frames.
        head_deg: (T, 3) as of `head_angles`.

    Raises:
        ShapeError: another number of frames.
    """
    check_shape(head_deg, f"{len(track)} 3", "the head's angles")
    return with_rotation(track, rotation_matrix(head_deg.double()))


def with_rotation(track: KeypointTrack, rotation: Tensor) -> KeypointTrack:
    """The track with (T, 3, 3) other rotations; its expression, which is added after the turn, turns with it."""
    change = rotation.double() @ rotation_of(track.layout, track.rotation_deg).transpose(1, 2)
    expression = (track.expression.double() @ change.transpose(1, 2)).float()
    return replace(track, expression=expression, rotation_deg=angles_of(track.layout, rotation))


def between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """(T, 3, 3) rotations between two: the one nearest to their weighted mean.

    Args:
        first: (T, 3, 3).
        second: (T, 3, 3).
        share: (T,) 0 the first .. 1 the second.

    Source: Moakher 2002, projected arithmetic mean.
    """
    u, _, vt = torch.linalg.svd(torch.lerp(first, second, share[:, None, None].to(first.dtype)))
    sign = torch.ones_like(u[..., 0])
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    return u * sign[:, None] @ vt


def _turn(angle: Tensor, first: int, second: int) -> Tensor:
    """(T, 3, 3) rotations that turn one axis towards another."""
    matrix = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, second, first] = angle.sin()
    matrix[:, first, second] = -angle.sin()
    return matrix
