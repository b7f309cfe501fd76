"""Scenes of a film, between its cuts, and whether they show the same person."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..memory_map import release_memory
from ..types import LandmarkTrack
from . import topology as topo
from .geometry import align, interocular_px, turned_aside

CELLS = 16  # a side: pictures are compared as so small ones
COARSE_PX = 128  # of which these many pixels a side are looked at
MIN_CUT = 6.0  # levels of 255 between the pictures before and after a cut, at the least
CHANGED = 0.3  # share of the picture that differs by as much: a hand that comes in changes less
OUTSTANDING = 5.0  # times the usual difference around it
FASTER = 2.0  # times the usual difference before it, and after it: a camera that begins or ends to move is no cut
AROUND = 8  # frames before and after, whose differences are the usual ones
JUMP = 0.6  # of the face's size: a face that is so much further on in the next frame is another, or in another scene
LIKE = 0.024  # inter-ocular distances, mean: one person's scenes reach 0.013, of pairs of people 2 % lie below
COMPARED = 24  # the most frontal frames of a scene, whose landmarks' medians are compared
# What speech and blinks move least.
FACE = tuple(i for i in range(topo.NUM_MESH_POINTS) if i not in {*topo.LIPS, *topo.EYELIDS})


class SceneFinder:
    """Finds cuts while the pictures of a film pass by; keeps some numbers of each, not the picture."""

    def __init__(self) -> None:
        self._small: list[Tensor] = []  # of the last two pictures
        self._moves: list[float] = []  # mean difference of each picture from the one before it
        self._before: list[float] = []  # the same, 0 where most of the picture is alike
        self._over: list[float] = []  # and from the one before that
        self._jumps: list[bool] = []
        self._last: Tensor | None = None

    def see(self, picture: Tensor, face: Tensor | None) -> None:
        """Take the next picture (H, W, 3) uint8, and the face's (478, 3) landmarks in it, pixels."""
        small = _small(picture)
        differences = [_difference(small, old) for old in reversed(self._small)]
        self._moves.append(float((small - self._small[-1]).abs().mean()) if self._small else 0.0)
        self._before.append(differences[0] if differences else 0.0)
        self._over.append(differences[1] if len(differences) > 1 else torch.inf)
        self._small = [*self._small[-1:], small]
        self._jumps.append(face is not None and self._last is not None and _jumped(self._last, face))
        self._last = face

    @property
    def may_cut(self) -> bool:
        """Whether a scene may begin with the last picture; what comes behind it decides."""
        return bool(self._jumps) and (self._jumps[-1] or self._before[-1] > MIN_CUT)

    def scenes(self) -> Tensor:
        """(T,) int64 number of each picture's scene, from 0."""
        differences, over, moves = (torch.tensor(values) for values in (self._before, self._over, self._moves))
        cuts = torch.tensor(self._jumps, dtype=torch.bool)
        for at in torch.nonzero(differences > MIN_CUT).flatten().tolist():
            low = max(1, at - AROUND)
            # a camera that shakes now and then changes less than most of the picture in between
            sides = moves[low:at], moves[at + 1 : at + 1 + AROUND]
            usual = _median(torch.cat(sides))
            # a flash lasts a frame: what follows it is what was before it
            flash = at + 1 < len(differences) and bool(over[at + 1] < differences[at] / 2)
            after_flash = at > 1 and bool(over[at] < differences[at - 1] / 2)
            stands_out = differences[at] > max(OUTSTANDING * usual, *(FASTER * _median(side) for side in sides))
            cuts[at] |= bool(stands_out) and not flash and not after_flash
        return cuts.long().cumsum(0)


def other_people(track: LandmarkTrack, scenes: Tensor) -> Tensor:
    """(T,) bool: scenes whose face has another shape than the first one's.

    Args:
        track: of what was followed, T frames.
        scenes: (T,) number of each frame's scene.
    """
    other_person = torch.zeros(len(track), dtype=torch.bool)
    if bool((scenes == scenes[:1]).all()):
        return other_person  # nobody else
    first = None
    for scene in scenes.unique().tolist():
        frames = torch.nonzero((scenes == scene) & track.valid).flatten()
        if not len(frames):
            continue
        shape = _shape(track, frames)
        if first is None:
            first = shape
        elif _unlikeness(first, shape) > LIKE:
            other_person[scenes == scene] = True
    return other_person


def _shape(track: LandmarkTrack, frames: Tensor) -> Tensor:
    """(478, 3) median of the most frontal of a track's (N,) frames, aligned with one of them."""
    size = torch.tensor([track.width, track.height, track.width], dtype=torch.float32)
    left, right = (
        torch.stack([track.points[frames, point] for point in corners]).mean(0) * size
        for corners in (topo.LEFT_EYE_CORNERS, topo.RIGHT_EYE_CORNERS)
    )
    release_memory()
    frontal = track.px_of(frames[turned_aside(left - right).argsort()[:COMPARED]])
    rigid = list(topo.RIGID)
    scale, rotation, shift = align(frontal[:, rigid], frontal[:1, rigid].expand(len(frontal), -1, -1))
    return (scale[:, None, None] * frontal @ rotation.transpose(1, 2) + shift[:, None]).median(0).values


def _unlikeness(one: Tensor, other: Tensor) -> float:
    """Mean distance of two faces' landmarks (478, 3), the second turned onto the first, inter-ocular distances."""
    face = list(FACE)
    scale, rotation, shift = align(other[None, face], one[None, face])
    moved = (scale[:, None, None] * other[None, face] @ rotation.transpose(1, 2) + shift[:, None])[0]
    return float((moved - one[face]).norm(dim=1).mean() / interocular_px(one[None])[0].clamp(min=1e-6))


def _median(moves: Tensor) -> float:
    return float(moves.median()) if len(moves) else 0.0


def _difference(one: Tensor, other: Tensor) -> float:
    """Mean difference of two small pictures; 0 where most of them is alike."""
    difference = (one - other).abs().mean(0)
    return float(difference.mean()) if float((difference > MIN_CUT).float().mean()) > CHANGED else 0.0


def _small(picture: Tensor) -> Tensor:
    step = max(1, min(picture.shape[:2]) // COARSE_PX)
    return F.adaptive_avg_pool2d(picture[::step, ::step].permute(2, 0, 1)[None].float(), CELLS)[0]


def _jumped(previous: Tensor, current: Tensor) -> bool:
    size = (previous[:, :2].amax(0) - previous[:, :2].amin(0)).max()
    return bool((current[:, :2].mean(0) - previous[:, :2].mean(0)).norm() > JUMP * size)
