"""Head placement: measurement from landmarks, a limited step between frames, and transformation of landmarks to it.

A placement is p = (cx, cy, w, h, sin ρ, cos ρ): middle and size of the box around the face oval, over the picture's
width and height, and the roll ρ, the angle of the line from point 33 to point 263 (positive: clockwise). The box is
upright in the head's own axes, so that a head that rolls keeps its w and h.

Shapes: T frames. The text of PortraitTalk leaves placement open; the decisions are this project's own.
Source: PortraitTalk, section 3.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...checks import check_finite, check_range, check_shape
from ...errors import InputError
from ...face import topology as topo
from ...types import LandmarkTrack

NUM_PLACEMENT = 6
FOLLOW_LIMIT = 0.02  # of the picture's side, and of the roll's sine and cosine, a frame
EYE_LINE = (topo.RIGHT_EYE_CORNERS[0], topo.LEFT_EYE_CORNERS[1])  # 33 → 263


def placements(track: LandmarkTrack) -> Tensor:
    """(T, 6) float32 head placement of every frame of a track."""
    centre, size, roll = _boxes_px(track)
    picture = _picture_size(track)
    return torch.cat([centre / picture, size / picture, roll.sin()[:, None], roll.cos()[:, None]], 1).float()


def follow(start: Tensor, driving: Tensor, limit: float = FOLLOW_LIMIT) -> Tensor:
    """Follow driving placements in limited steps: P_t = P_(t−1) + clip(D_t − P_(t−1), ±limit).

    The last row is the next chunk's start: a long track followed in chunks gives the same numbers as in one go.

    Args:
        start: (6,) placement of the frame before: of the reference picture, or the last row of the chunk before.
        driving: (T, 6) placements to follow.
        limit: largest step of a number a frame, above 0 and up to 2 (no limit); sine and cosine are brought back
            onto the circle after the step.

    Returns:
        (T, 6) float32.

    Raises:
        InputError: another shape, NaN, no size, or a roll that is no angle.
    """
    check_range(limit, 1e-6, 2, "the limit of head placement")
    current = _checked(start[None] if start.ndim == 1 else start, "the start placement", "1 6")[0].numpy()
    targets = _checked(driving, "the driving placements", "T 6").numpy()
    rows = np.empty_like(targets)
    for frame, target in enumerate(targets):  # every row is rounded to float32, as the state between chunks is
        current = rows[frame] = _step(current, target, np.float32(limit))
    return torch.from_numpy(rows)


def place(track: LandmarkTrack, targets: Tensor) -> LandmarkTrack:
    """Transform each frame's landmarks by a similarity so that the head has a given placement.

    The face keeps its shape: one scale, from the boxes' areas, serves both directions, and depth too.

    Args:
        track: T frames.
        targets: (T, 6) placements, or (1, 6) for all frames.

    Raises:
        InputError: another number of frames, or a face of no size.
    """
    targets = _checked(targets, "the placements", "T 6").double()
    if len(targets) not in (1, len(track)):
        raise InputError(f"{len(targets)} placements cannot place {len(track)} frames; give one a frame, or just one.")
    centre, size, roll = _boxes_px(track)
    if not (size > 0).all():
        frame = int((size <= 0).any(1).nonzero()[0])
        raise InputError(f"the face of frame {frame} has no size and cannot be placed; give landmarks of a whole face.")
    picture = _picture_size(track)
    scale = ((targets[:, 2:4] * picture).prod(1) / size.prod(1)).sqrt()
    turn = torch.atan2(targets[:, 4], targets[:, 5]) - roll
    points = track.points.double()
    from_centre = points[..., :2] * picture - centre[:, None]
    moved = scale[:, None, None] * _rotated(from_centre, turn) + (targets[:, :2] * picture)[:, None]
    placed = torch.cat([moved / picture, points[..., 2:] * scale[:, None, None]], 2)
    return replace(track, points=placed.float())


def _step(current: np.ndarray, target: np.ndarray, limit: np.float32) -> np.ndarray:
    """The next placement: one limited step towards the target."""
    step = np.clip(target - current, -limit, limit)
    roll, target_roll = current[4:], target[4:]
    if roll @ target_roll < 0:
        # more than a quarter turn away: the clipped step points into the circle and may stand still; walk along it
        across = roll[1] * target_roll[0] - roll[0] * target_roll[1]
        step[4:] = (limit if across >= 0 else -limit) * np.array([roll[1], -roll[0]])
    moved = current + step
    if step[4:].any():
        moved[4:] /= np.hypot(moved[4], moved[5])
    return moved


def _boxes_px(track: LandmarkTrack) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (T, 2) and sizes (T, 2) in pixels, and rolls (T,) in radians, in double precision."""
    points = track.points[..., :2].double() * _picture_size(track)
    eyes = points[:, EYE_LINE[1]] - points[:, EYE_LINE[0]]
    roll = torch.atan2(eyes[:, 1], eyes[:, 0])
    upright = _rotated(points[:, list(topo.FACE_OVAL)], -roll)
    low, high = upright.amin(1), upright.amax(1)
    return _rotated((low + high)[:, None] / 2, roll)[:, 0], high - low, roll


def _rotated(points: Tensor, angle: Tensor) -> Tensor:
    """(T, N, 2) points rotated about the origin by (T,) radians, clockwise in the picture."""
    sin, cos = angle.sin()[:, None], angle.cos()[:, None]
    x, y = points.unbind(2)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], 2)


def _picture_size(track: LandmarkTrack) -> Tensor:
    return torch.tensor([track.width, track.height], dtype=torch.float64)


def _checked(rows: Tensor, name: str, shape: str) -> Tensor:
    """Check placements and return them as float32 on the CPU."""
    rows = check_finite(check_shape(rows, shape, name), name).detach().cpu().float()
    if not (rows[:, 2:4] > 0).all():
        raise InputError(f"{name} must have a width and a height above 0, not {rows[:, 2:4].min():g}.")
    norm = rows[:, 4:].norm(dim=1)
    if len(rows) and (norm - 1).abs().max() > 1e-3:
        worst = norm[(norm - 1).abs().argmax()]
        raise InputError(f"{name} must end in sine and cosine of the roll (squares sum to 1), not of length {worst:g}.")
    return rows
