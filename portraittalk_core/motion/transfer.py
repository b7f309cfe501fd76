"""Motion transfer from one face to another: expressions and head rotation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..face import topology as topo
from ..face.geometry import align
from ..types import LandmarkTrack
from .rig import face_axes, make_rig
from .smoothing import one_euro_smoothing

SAME_FACE = 0.05  # mean distance of the aligned rigid and outline points, inter-ocular units
SAME_PLACE = 0.3  # distance between the two faces, inter-ocular units
IRIS_UNIT, IRIS_SMOOTHING = 0.05, 0.6  # inter-ocular distances that a pupil goes in a wide look; see `smoothing`
SAME_SIZE = 1.12  # ratio of their sizes


def belongs_to(track: LandmarkTrack, reference: LandmarkTrack) -> bool:
    """Whether a track was made on this very portrait, so that its points can be used as they are.

    True if some frame has the reference's outline (after alignment) and most show the face where it stands there, as
    large as there. Different people's outlines differ too little to tell them apart by that alone.
    """
    outline = [*topo.RIGID, *topo.FACE_OVAL[:9], *topo.FACE_OVAL[-8:]]  # the jaw moves with speech
    at_rest = reference.points_px[0]
    _, _, unit = face_axes(at_rest)
    size = torch.tensor([reference.width, reference.height, reference.width], dtype=torch.float32)
    step = max(1, len(track) // 500)
    frames = track.points[::step] * size
    scale, rotation, shift = align(frames[:, outline], at_rest[outline].expand(len(frames), -1, -1))
    aligned = scale[:, None, None] * frames[:, outline] @ rotation.transpose(1, 2) + shift[:, None]
    shape_error = (aligned - at_rest[outline]).norm(dim=2).mean(1).min() / unit
    displaced = (frames[:, outline, :2].mean(1) - at_rest[outline, :2].mean(0)).norm(dim=1).median() / unit
    resized = scale.log().abs().median()
    return bool(shape_error < SAME_FACE and displaced < SAME_PLACE and resized < math.log(SAME_SIZE))


def steady_eyes(expression: Tensor, track: LandmarkTrack) -> None:
    """Let the irises of (T, 478, 3) displacements move together and without a mesh's jitter, in place."""
    irises = [*topo.RIGHT_IRIS, *topo.LEFT_IRIS]
    gaze = expression[:, [topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0]]].mean(1)
    steady = IRIS_UNIT * one_euro_smoothing(gaze / IRIS_UNIT, track.fps, IRIS_SMOOTHING)
    expression[:, irises] = steady[:, None]


def transfer_motion(track: LandmarkTrack, reference: LandmarkTrack) -> LandmarkTrack:
    """Motion of the face in `track`, transferred to the face in `reference`.

    Args:
        track: the driver, T frames, of any picture size.
        reference: one frame of the face to move.

    Returns:
        (T) frames on the reference's picture; the driver's first frame becomes the reference's own head pose.
    """
    rig = make_rig(reference)
    points = track.points_px
    gap = (points[:, topo.INNER_LIP_TOP] - points[:, topo.INNER_LIP_BOTTOM]).norm(dim=1)
    neutral = points[int(torch.where(track.valid, gap, torch.inf).argmin())] if track.valid.any() else points[0]
    axes, origin, unit = face_axes(neutral)
    resting = (neutral - origin) @ axes.T / unit
    rigid = list(topo.RIGID)
    local = (points - origin) @ axes.T / unit
    # each frame turned back onto the neutral head: what is left is expression
    scale, rotation, shift = align(local[:, rigid], resting[rigid].expand(len(local), -1, -1))
    expression = scale[:, None, None] * local @ rotation.transpose(1, 2) + shift[:, None] - resting
    steady_eyes(expression, track)
    moved = rig.rest + rig.close + expression
    # and the head's way since the first frame, about the same point between the eyes
    turn = rotation.transpose(1, 2) @ rotation[:1]
    size = scale[:1] / scale
    between_eyes = local[:, [*topo.RIGHT_EYE_CORNERS, *topo.LEFT_EYE_CORNERS]].mean(1)
    travel = between_eyes - between_eyes[:1]
    placed = size[:, None, None] * moved @ turn.transpose(1, 2) + travel[:, None]
    result = LandmarkTrack.from_px(rig.to_px(placed), reference.width, reference.height, track.fps)
    return LandmarkTrack(result.points, track.valid.clone(), track.fps, reference.width, reference.height)
