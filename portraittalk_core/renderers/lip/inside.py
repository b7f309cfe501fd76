"""Where a painted inside of the mouth is better than the warp's own: `blend` mouth shows it there alone.

The warp bends every frame of a film; what lies between the lips is its own painting wherever the networks cannot be
trusted: on turned heads, in tiny mouths, on closed lips, and in films whose own mouths they do not paint well.
Shapes: T frames, F of them, S side of the networks' crops.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from ...face.lip_points import INNER_LIPS
from ...motion.dub import presence
from ...types import LandmarkTrack
from .contract import LipBatch, LipModel
from .crop import LipBoxes
from .footage import Footage
from .listening import Rows
from .policy import turned_aside
from .reading import crops_of
from .references import ReferenceFrames
from .sketches import OwnSketches
from .warped_frames import mouth_mask

log = logging.getLogger(__name__)

MOST_YAW_DEG = 35.0  # a head turned further shows half a mouth, for which the training had no example
LEAST_WIDTH_PX = 14.0  # of a mouth: in smaller ones nothing is seen
CLOSED, PARTED = 0.03, 0.06  # gap of the inner lips over their width: below nothing is shown, from there on all
TRIED = 5  # frames of the film's own that are painted as a trial
TRIED_GAP = 0.1  # gap over width of a mouth whose inside can be tried
LEAST_EXPLAINED = 0.3  # share of the variance of colours in the true mouths that the painted ones explain
_CORNERS, _MIDDLES = (INNER_LIPS[0], INNER_LIPS[10]), (INNER_LIPS[5], INNER_LIPS[15])


def inside_shares(
    track: LandmarkTrack, scenes: Tensor, usable: Tensor, max_yaw_deg: float, source: str = "the film"
) -> Tensor:
    """(T,) 0..1, how much of a painted inside each frame shows, whatever the mouth does: 0 is the warp's own.

    Args:
        track: of the filmed face.
        scenes: (T,) number of each frame's scene; over a cut nothing fades.
        usable: (T,) bool: whether the face is large enough to be painted.
        max_yaw_deg: faces that are turned further keep the warp's; `MOST_YAW_DEG` at most.
        source: name of the film, for the log.
    """
    limit = min(max_yaw_deg, MOST_YAW_DEG)
    turned = turned_aside(track, scenes, limit) & track.valid
    small = track.valid & ~turned & (~usable | (_widths_px(track) < LEAST_WIDTH_PX))
    for frames, why in ((turned, f"is turned aside by more than {limit:g}°"), (small, "has a tiny mouth")):
        if frames.any():
            log.info("the face in %s %s in %d frames: the warp paints its teeth.", source, why, int(frames.sum()))
    return presence(track.valid & ~turned & ~small, scenes, track.fps)


def _widths_px(track: LandmarkTrack) -> Tensor:
    ends = track.points[:, list(_CORNERS), :2] * torch.tensor([track.width, track.height])
    return (ends[:, 0] - ends[:, 1]).norm(dim=1)


def gaps(shapes: Tensor, width: int, height: int) -> Tensor:
    """(F,) gap between the lips over their width, of (F, 478, 3) landmarks normalised to a picture."""
    points = shapes[..., :2] * torch.tensor([width, height])
    upper, lower = (points[:, at] for at in _MIDDLES)
    left, right = (points[:, at] for at in _CORNERS)
    return (upper - lower).norm(dim=1) / (left - right).norm(dim=1).clamp(min=1e-3)


def parted_share(gap: Tensor) -> Tensor:
    """How much of a painted inside parted lips show: nothing while they are closed."""
    return ((gap - CLOSED) / (PARTED - CLOSED)).clamp(0, 1)


def tried_frames(footage: Footage, shares: Tensor, chosen: ReferenceFrames) -> list[int]:
    """Numbers of frames of a film with an open mouth, `TRIED` at most, from all of it.

    They are no references, unless all such frames are, as in a film shorter than the number of references.
    """
    track = footage.track
    frames = torch.nonzero(shares >= 1).flatten()
    opened = frames[gaps(track.points[frames], track.width, track.height) >= TRIED_GAP]
    others = opened[~torch.isin(opened, torch.tensor(sorted({*chosen.faces, *chosen.lips})))]
    opened = others if len(others) else opened
    some = torch.linspace(0, len(opened) - 1, min(TRIED, len(opened))).long()
    return opened[some].tolist()


@torch.no_grad()
def explained(
    model: LipModel, features: Any, sound: Rows | None, footage: Footage, boxes: LipBoxes, frames: list[int]
) -> float | None:
    """How well the networks paint the film's own open mouths from its references.

    Args:
        model: the networks.
        features: of the references.
        sound: what is heard in each frame; it need not be the film's own.
        footage: the film.
        boxes: of its frames.
        frames: of `tried_frames`.

    Returns:
        Share of the variance of colours inside the true mouths that is explained, 1 where they are the same; None where
        there are no such frames.
    """
    if not frames:
        return None
    numbers, crops = crops_of(footage, boxes, frames)
    true = torch.stack(crops)
    sketches = OwnSketches(footage, boxes, lambda at: footage.track.points[at])
    drawn = torch.stack([sketches.window(at) for at in numbers]) if model.needs_sketches else true.new_empty(0)
    placed = {"device": model.device, "dtype": model.dtype}
    heard = None if sound is None else sound(numbers).to(model.device)
    batch = LipBatch(true.to(**placed), drawn.to(**placed), heard)
    painted = model.paint(features, batch).float().cpu()
    lips = [boxes.points01(at, footage.track.points[at, list(INNER_LIPS)]) for at in numbers]
    masks = torch.stack([mouth_mask(own[:, :2], boxes.rule.size) for own in lips])[:, None]
    mean = (true * masks).sum((2, 3), keepdim=True) / masks.sum((2, 3), keepdim=True)
    left, whole = (((true - other).square() * masks).sum() for other in (painted, mean))
    return float(1 - left / whole.clamp(min=1e-9))


def trusted(share: float | None, source: str) -> bool:
    """Whether the painted inside is shown at all, from what `explained` gave; the log says why not."""
    if share is None:
        log.info("%s shows no open mouth to learn from: the warp paints its teeth.", source)
        return False
    if share < LEAST_EXPLAINED:
        log.info("the networks paint the mouths of %s badly (%.2f of 1): the warp paints its teeth.", source, share)
        return False
    return True
