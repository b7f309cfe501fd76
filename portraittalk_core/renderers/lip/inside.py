"""Where a painted inside of the mouth is better than the warp's own: `blend` mouth shows it there alone.

The warp bends every frame of a film; what lies between the lips is its own painting wherever the networks cannot be
trusted: on turned heads, in tiny mouths, on closed lips, and in films whose own mouths they do not paint well.
Shapes: T frames, F of them, S side of the networks' crops.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...face.lip_points import INNER, INNER_LIPS
from ...motion.dub import presence
from ...types import LandmarkTrack
from .contract import LipBatch, LipModel
from .crop import LipBoxes
from .footage import Footage
from .listening import Rows
from .masks import mouth_mask
from .policy import turned_aside
from .reading import crops_of
from .references import ReferenceFrames
from .sketches import OwnSketches

log = logging.getLogger(__name__)

MOST_YAW_DEG = 35.0  # a head turned further shows half a mouth, for which the training had no example
LEAST_WIDTH_PX = 14.0  # of a mouth: in smaller ones nothing is seen
CLOSED, PARTED = 0.03, 0.06  # gap of the inner lips over their width: below nothing is shown, from there on all
TRIED = 5  # frames of the film's own that are painted as a trial
TRIED_GAP = 0.1  # gap over width of a mouth whose inside can be tried
LEAST_EXPLAINED = 0.45  # share of the variance of colours in the true mouths that the painted ones explain
LEAST_SHARPNESS = 0.65  # of the painted mouths' gradients, over those of the film's own
LARGEST = 1.5  # a mouth so many times as wide in the film as in the networks' crop would be a blur
MOST_SHIFT = 0.1  # of a colour 0..1: what is further off has no cast, but is another picture
WIDER = 1.4  # mouths opened so much wider than any reference show what nobody has seen
_CORNERS, _MIDDLES = (INNER_LIPS[0], INNER_LIPS[10]), (INNER_LIPS[5], INNER_LIPS[15])


@dataclass(frozen=True)
class Trial:
    """How the networks painted the film's own mouths."""

    explained: float  # share of the variance of colours, 1 where they are the same
    sharpness: float  # of gradients, over the film's own
    enlarged: float  # width of a mouth in the film over that in the networks' crop
    shift: tuple[float, ...] = field(default=(0.0, 0.0, 0.0), compare=False)  # of red, green, blue, to the film's mean


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
    points = shapes[:, [*_MIDDLES, *_CORNERS], :2] * torch.tensor([width, height])
    upper, lower, left, right = points.unbind(1)
    return (upper - lower).norm(dim=1) / (left - right).norm(dim=1).clamp(min=1e-3)


def parted_share(gap: Tensor) -> Tensor:
    """How much of a painted inside parted lips show: nothing while they are closed."""
    return ((gap - CLOSED) / (PARTED - CLOSED)).clamp(0, 1)


def tried_frames(footage: Footage, shares: Tensor, chosen: ReferenceFrames) -> list[int]:
    """Numbers of frames of a film with an open mouth, `TRIED` at most, from all of it.

    They are no references, except where all such frames are, as in a film with fewer frames than references.
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
) -> tuple[Trial | None, Any]:
    """How well the networks paint the film's own open mouths from its references.

    Where what they paint is added to aligned references, as much of it is taken as brings them nearest to the film:
    what was learnt of others' teeth need not be right for these. Nor need their brightness: the mean colour of what is
    painted is brought to the film's, here for each frame to that of the others.

    Args:
        model: the networks.
        features: of the references.
        sound: what is heard in each frame; it need not be the film's own.
        footage: the film.
        boxes: of its frames.
        frames: of `tried_frames`.

    Returns:
        What came of it, None where there are no such frames; and the features to paint with.
    """
    if not frames:
        return None, features
    numbers, crops = crops_of(footage, boxes, frames)
    true = torch.stack(crops)
    sketches = OwnSketches(footage, boxes, lambda at: footage.track.points[at])
    drawn, points = map(torch.stack, zip(*(sketches.window(at) for at in numbers), strict=True))
    placed = {"device": model.device, "dtype": model.dtype}
    heard = None if sound is None else sound(numbers).to(model.device)
    batch = LipBatch(true.to(**placed), drawn.to(**placed), heard, points)
    painted = model.paint(features, batch).float().cpu()
    masks = mouth_mask(points[:, INNER], boxes.rule.size)[:, None]
    mean = (true * masks).sum((2, 3), keepdim=True) / masks.sum((2, 3), keepdim=True)
    bare = model.with_share(features, 0.0)
    if bare is not None:
        aligned = model.paint(bare, batch).float().cpu()
        share = best_share(aligned, painted, true, masks)
        features, painted = model.with_share(features, share), torch.lerp(aligned, painted, share)
    shift, shifts = mean_shifts(painted, true, (masks >= 1).float())  # without the lips, on which masks fade
    painted = painted + shifts[:, :, None, None]
    error, variance = (((true - other).square() * masks).sum() for other in (painted, mean))
    sharp = _gradients(painted, masks) / _gradients(true, masks).clamp(min=1e-9)
    enlarged = enlargement(footage.track, boxes, numbers)
    return Trial(float(1 - error / variance.clamp(min=1e-9)), float(sharp), enlarged, tuple(shift.tolist())), features


def mean_shifts(painted: Tensor, true: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean differences of colours of (F, 3, S, S) true and painted crops where (F, 1, S, S) masks are.

    Returns:
        (3,) of all frames; (F, 3) for each frame that of the others, 0 where there are none; `MOST_SHIFT` at most.
    """
    away, area = ((true - painted) * masks).sum((2, 3)), masks.sum((2, 3))
    total, whole = away.sum(0), area.sum(0)
    shifts = total / whole.clamp(min=1e-9), (total - away) / (whole - area).clamp(min=1e-3)
    return tuple(shift.clamp(-MOST_SHIFT, MOST_SHIFT) for shift in shifts)


def enlargement(track: LandmarkTrack, boxes: LipBoxes, frames: list[int]) -> float:
    """How many times as wide a mouth is in a film as in the networks' crops of it; in the median of some frames."""
    ends = [boxes.points01(at, track.points[at, list(_CORNERS)]) for at in frames]
    in_crop = float(torch.stack([(own[0] - own[1]).norm() for own in ends]).median()) * boxes.rule.size
    return float(_widths_px(track)[frames].median()) / max(in_crop, 1e-3)


def best_share(aligned: Tensor, painted: Tensor, true: Tensor, masks: Tensor) -> float:
    """Share 0..1 of what was painted over aligned crops that brings them nearest to the true ones, in least squares."""
    added = painted - aligned
    best = (masks * added * (true - aligned)).sum() / (masks * added.square()).sum().clamp(min=1e-9)
    return float(best.clamp(0, 1))


def _gradients(crops: Tensor, masks: Tensor) -> Tensor:
    across, down = crops.diff(dim=3)[:, :, 1:], crops.diff(dim=2)[..., 1:]
    return ((across.square() + down.square()) * masks[..., 1:, 1:]).sum().sqrt()


def wider(footage: Footage, chosen: ReferenceFrames) -> float:
    """How wide the mouth is to open, as wide as it does in a twentieth of the frames, over the widest reference."""
    track, target = footage.track, footage.target
    known = gaps(track.points[list(chosen.faces)], track.width, track.height).max()
    target_gaps = gaps(target.points, track.width, track.height)[track.valid]
    return float(target_gaps.quantile(0.95) / known.clamp(min=1e-3)) if len(target_gaps) < 2**24 else 1.0


def trusted(trial: Trial | None, opened: float, source: str) -> bool:
    """Whether the painted inside is shown at all; the log says why not.

    Args:
        trial: of `explained`.
        opened: of `wider`.
        source: name of the film.
    """
    if trial is None or opened > WIDER:
        why = "shows no mouth that is open as wide as it is to be"
    elif trial.enlarged > LARGEST:
        why = f"shows mouths {trial.enlarged:.1f} times as wide as the networks see them"
    elif trial.explained < LEAST_EXPLAINED or trial.sharpness < LEAST_SHARPNESS:
        why = f"has mouths that the networks paint badly ({trial.explained:.2f} of 1, sharpness {trial.sharpness:.2f})"
    else:
        return True
    log.info("%s %s: the warp paints its teeth.", source, why)
    return False
