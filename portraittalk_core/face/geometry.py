"""Measurements on landmarks: distances, mouth opening, boxes, head pose.

Shapes: T frames, N points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import HeadPose, LandmarkTrack
from . import topology as topo
from .canonical import canonical_face

PNP_STEPS = 6
PLAIN_RISE = -0.14  # what the corners of people's mouths rise more than the canonical face's, at the median
VIEWING_DISTANCE = 30.0  # inter-ocular distances, about 2 m: the mesh itself knows little perspective


def interocular_px(points_px: Tensor) -> Tensor:
    """(T,) distance between the eyes' middles in the picture plane, of (T, 478, 2 or 3) pixels."""
    right_eye = points_px[:, list(topo.RIGHT_EYE_CORNERS), :2].mean(1)
    left_eye = points_px[:, list(topo.LEFT_EYE_CORNERS), :2].mean(1)
    return (left_eye - right_eye).norm(dim=1)


def eye_axis(points_px: Tensor) -> Tensor:
    """(T, 3) from the middle of the right eye to that of the left one, of (T, 478, 3) pixels."""
    right_eye, left_eye = (points_px[:, list(eye)].mean(1) for eye in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS))
    return left_eye - right_eye


def turned_aside(axis: Tensor) -> Tensor:
    """(T,) 0..1 how far heads are turned to either side, by their (T, 3) `eye_axis`: the sine of yaw."""
    return axis[:, 2].abs() / axis.norm(dim=1).clamp(min=1e-6)


def mouth_open(track: LandmarkTrack) -> Tensor:
    """(T,) gap between the inner lips (points 13 and 14) over the inter-ocular distance."""
    return _distance(track.points_px, topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM)


def mouth_width(track: LandmarkTrack) -> Tensor:
    """(T,) distance between the mouth's corners (61 and 291) over the inter-ocular distance."""
    return _distance(track.points_px, *topo.MOUTH_CORNERS)


def jaw_drop(track: LandmarkTrack) -> Tensor:
    """(T,) distance from nose tip to chin (1 and 152) over the inter-ocular distance."""
    return _distance(track.points_px, topo.NOSE_TIP, topo.CHIN)


def eye_open(track: LandmarkTrack) -> Tensor:
    """(T,) height of the eyes over their width, mean of both: about 0.3 open, below 0.15 shut."""
    points = track.points_px[..., :2]

    def ratio(top: int, bottom: int, corners: tuple[int, int]) -> Tensor:
        width = (points[:, corners[0]] - points[:, corners[1]]).norm(dim=1).clamp(min=1e-6)
        return (points[:, top] - points[:, bottom]).norm(dim=1) / width

    return (ratio(159, 145, topo.RIGHT_EYE_CORNERS) + ratio(386, 374, topo.LEFT_EYE_CORNERS)) / 2


def face_box_px(points_px: Tensor) -> Tensor:
    """(T, 4) smallest upright box x0, y0, x1, y1 around (T, N, 2 or 3) points."""
    return torch.cat([points_px[..., :2].amin(1), points_px[..., :2].amax(1)], 1)


def head_pose(track: LandmarkTrack) -> HeadPose:
    """Head rotation, position and size of every frame, by perspective-n-point on the canonical face.

    The camera looks straight between the eyes from about VIEWING_DISTANCE, as portraits are taken, so that the angles
    do not depend on where in the picture the face stands. Points that speech hardly moves (`topology.RIGID`) are
    fitted, all frames at once, by Gauss-Newton steps from a rigid alignment of the 3-D landmarks.

    Returns:
        Angles; translation in inter-ocular distances: x and y of the point between the eyes from the picture's middle,
        z the picture's width (larger is further away); scale: pixels per inter-ocular distance.
    """
    rigid = list(topo.RIGID)
    model = canonical_face()[rigid].double()
    observed = track.points_px[:, rigid].double()
    size, rotation, _ = align(model.expand(len(observed), -1, -1), observed)
    focal = VIEWING_DISTANCE * size.clamp(min=1e-6)
    centre = track.points_px[:, list(topo.RIGHT_EYE_CORNERS + topo.LEFT_EYE_CORNERS), :2].double().mean(1)
    target = (observed[..., :2] - centre[:, None]) / focal[:, None, None]
    shift = torch.tensor([0.0, 0.0, VIEWING_DISTANCE], dtype=torch.float64).expand(len(observed), 3)
    for _ in range(PNP_STEPS):
        rotation, shift = _gauss_newton(model, target, rotation, shift)
    scale = focal / shift[:, 2]
    between_eyes = centre + shift[:, :2] * scale[:, None]
    middle = torch.tensor([track.width / 2, track.height / 2], dtype=torch.float64)
    translation = torch.cat([(between_eyes - middle) / scale[:, None], (track.width / scale)[:, None]], 1)
    return HeadPose(torch.rad2deg(_euler(rotation)).float(), translation.float(), scale.float())


def align(moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least-squares similarity with fixed ≈ scale · moving · rotationᵀ + shift.

    Args:
        moving: (T, N, 3).
        fixed: (T, N, 3).

    Returns:
        scale (T,), rotation (T, 3, 3), shift (T, 3).

    Source: Umeyama 1991, equations 38 to 42.
    """
    m, f = moving.mean(1, keepdim=True), fixed.mean(1, keepdim=True)
    a, b = moving - m, fixed - f
    u, s, vt = torch.linalg.svd(b.transpose(1, 2) @ a)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ torch.diag_embed(sign) @ vt
    scale = (s * sign).sum(1) / a.square().sum((1, 2)).clamp(min=1e-12)
    shift = f[:, 0] - scale[:, None] * (rotation @ m[:, 0, :, None])[..., 0]
    return scale, rotation, shift


def stabilised(points_px: Tensor) -> Tensor:
    """Landmarks without head motion: (T, 478, 3) aligned with the canonical face by a similarity transform.

    Args:
        points_px: (T, 478, 3) pixels.

    Returns:
        In inter-ocular distances, axes as of the canonical face: x to the viewer's right, y down.
    """
    rigid = list(topo.RIGID)
    scale, rotation, shift = align(points_px[:, rigid], canonical_face()[rigid].expand(len(points_px), -1, -1))
    return scale[:, None, None] * points_px @ rotation.transpose(1, 2) + shift[:, None]


def smile(points: Tensor) -> Tensor:
    """(T,) height of the mouth's corners over the middle between the lips, less that of most people at rest.

    Args:
        points: (T, 478, 3) of `stabilised`.
    """
    return _corner_rise(points) - float(_corner_rise(canonical_face()[None])) - PLAIN_RISE


def _corner_rise(points: Tensor) -> Tensor:
    middle = points[:, [topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM], 1].mean(1)
    return middle - points[:, list(topo.MOUTH_CORNERS), 1].mean(1)


def rotation_matrix(angles_deg: Tensor) -> Tensor:
    """(T, 3, 3) rotations of (T, 3) pitch, yaw, roll in degrees, signs as in `types.HeadPose`: roll · yaw · pitch."""
    pitch, yaw, roll = torch.deg2rad(angles_deg).unbind(1)
    zeros, ones = torch.zeros_like(pitch), torch.ones_like(pitch)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    about_x = matrix((ones, zeros, zeros), (zeros, pitch.cos(), -pitch.sin()), (zeros, pitch.sin(), pitch.cos()))
    about_y = matrix((yaw.cos(), zeros, -yaw.sin()), (zeros, ones, zeros), (yaw.sin(), zeros, yaw.cos()))
    about_z = matrix((roll.cos(), -roll.sin(), zeros), (roll.sin(), roll.cos(), zeros), (zeros, zeros, ones))
    return about_z @ about_y @ about_x


def euler_angles_deg(rotation: Tensor) -> Tensor:
    """(T, 3) pitch, yaw and roll in degrees of (T, 3, 3) rotations, as `rotation_matrix` takes them."""
    return torch.rad2deg(_euler(rotation))


def _euler(rotation: Tensor) -> Tensor:
    """(T, 3) pitch, yaw, roll in radians of roll · yaw · pitch."""
    yaw = torch.asin(rotation[:, 2, 0].clamp(-1, 1))
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return torch.stack([pitch, yaw, roll], 1)


def _gauss_newton(model: Tensor, target: Tensor, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    turned = model @ rotation.transpose(1, 2)  # (T, N, 3)
    placed = turned + shift[:, None]
    x, y, z = placed.unbind(-1)
    z = z.clamp(min=1e-3)
    zero, inverse = torch.zeros_like(z), 1 / z
    # how the projected point moves with the point, and the point with a small turn
    by_point = torch.stack(
        [torch.stack([inverse, zero, -x * inverse**2], -1), torch.stack([zero, inverse, -y * inverse**2], -1)], -2
    )
    a, b, c = turned.unbind(-1)
    by_turn = torch.stack(
        [torch.stack([zero, c, -b], -1), torch.stack([-c, zero, a], -1), torch.stack([b, -a, zero], -1)], -2
    )
    jacobian = torch.cat([by_point @ by_turn, by_point], -1).flatten(1, 2)  # (T, 2N, 6)
    residual = (target - placed[..., :2] * inverse[..., None]).flatten(1)
    normal = jacobian.transpose(1, 2) @ jacobian
    normal = normal + 1e-9 * torch.eye(6, dtype=normal.dtype)
    step = torch.linalg.solve(normal, (jacobian.transpose(1, 2) @ residual[..., None]))[..., 0]
    return torch.linalg.matrix_exp(_skew(step[:, :3])) @ rotation, shift + step[:, 3:]


def _skew(turn: Tensor) -> Tensor:
    a, b, c = turn.unbind(1)
    zero = torch.zeros_like(a)
    rows = [torch.stack([zero, -c, b], -1), torch.stack([c, zero, -a], -1), torch.stack([-b, a, zero], -1)]
    return torch.stack(rows, -2)


def _distance(points_px: Tensor, first: int, second: int) -> Tensor:
    gap = (points_px[:, first, :2] - points_px[:, second, :2]).norm(dim=1)
    return gap / interocular_px(points_px).clamp(min=1e-6)
