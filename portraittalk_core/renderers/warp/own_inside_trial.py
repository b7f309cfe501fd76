"""Which frame of a film shows its other open mouths best, if any does better than painting them.

Some frames with open mouths are drawn with the inside of each of some others, and painted; the film itself says how
they look. What is near in colours but blurred is not taken: a tongue or a lip pulled over an open mouth.
Shapes: N places in a mouth, on a grid of U columns and V rows.
"""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture
from ...motion.turned_face import TurnedFace
from ..contract import Film
from ..film_pictures import pictures_at
from .film import FilmedFace
from .own_inside import OwnInside

log = logging.getLogger(__name__)

BLOCK = 512  # frames that are looked at at once
TRIED = 12  # frames that are drawn
OPEN = 0.1  # gap over width of a mouth that can be tried
LEAST_OPEN = 0.45  # of the widest mouth's relative gap
LEAST_TESTS = 4  # frames away from a candidate
APART_S = 0.12  # nearer frames show the same mouth
COLUMNS, ROWS = 48, 16
ASIDE, INSET = 0.45, 0.08  # of the mouth's width, from its middle; of the gap, from either lip
LEAST_GAP = 0.05  # of the mouth's width, in a column that is compared
LIPS = tuple(sorted({at for ring in (topo.OUTER_UPPER_LIP, topo.OUTER_LOWER_LIP) for at in ring[1:-1]}))
PALER, LEAST_RED = 0.7, 0.01  # redness of teeth over that of the lips, and what counts as any
LIGHTER = 0.95  # brightness of teeth over that of the lips, at least
LEAST_TEETH = 0.12  # of the places: what shows fewer is tongue or lip, and looks like a shut mouth
MOST_ERROR = 0.8  # of the squared error of painted mouths: a decibel
SHARP = (0.7, 1.6)  # gradients over the film's own


@dataclass(frozen=True)
class SeenMouth:
    """An open mouth of the film, and how it looks on a grid of places."""

    number: int  # of the frame
    relative_gap: float  # over the mouth's width
    own: OwnInside
    face: FilmedFace  # in this frame's light
    at: tuple[Tensor, ...]  # arguments of `FilmedFace.inside` for the U × V places
    counts: Tensor  # (U,) bool: columns that are open
    true: Tensor  # (3, U, V) colours 0..255
    lips: Tensor  # (3,) their median colour

    @property
    def teeth(self) -> float:
        """Share of the places that show teeth: paler than the lips, and hardly darker."""
        colours, lips = self.true[:, self.counts], self.lips[:, None, None]
        pale = _redness(colours) < PALER * _redness(lips).clamp(min=LEAST_RED)
        return float((pale & (colours.mean(0) > LIGHTER * lips.mean(0))).float().mean())

    @cached_property
    def painted_error(self) -> float:
        """`error` of the painted mouth."""
        return self.error(self.drawn(None))

    @cached_property
    def true_sharpness(self) -> float:
        """`sharpness` of the film's own mouth."""
        return self.sharpness(self.true)

    def drawn(self, own: OwnInside | None) -> Tensor:
        """(3, U, V) the same mouth with the inside of another frame, or painted."""
        self.face.own = own
        return self.face.inside(*self.at).reshape(3, COLUMNS, ROWS).clamp(0, 255)

    def error(self, drawn: Tensor) -> float:
        """Mean squared error of colours; means of four neighbours, against shifts by less than a place."""
        counts = self.counts.view(-1, 2).all(1)
        return float(F.avg_pool2d(drawn - self.true, 2)[:, counts].square().mean())

    def sharpness(self, colours: Tensor) -> float:
        """Mean square of the gradients of (3, U, V) colours."""
        along = colours.diff(dim=1)[:, self.counts[1:] & self.counts[:-1]].square().mean()
        return float(along + colours[:, self.counts].diff(dim=2).square().mean())


def best_inside(film: Film, scene: int, turned: TurnedFace) -> OwnInside | None:
    """The inside of one of the open mouths in a scene of a film, that shows its others best.

    Args:
        film: whose pictures are read.
        scene: number of the scene.
        turned: its face.

    Returns:
        None where painting does better, or where too few mouths are open to tell.
    """
    seen = _seen_mouths(film, tried_frames(film, scene), turned)
    apart = APART_S * float(film.track.fps)
    widest = max((mouth.relative_gap for mouth in seen), default=0.0)
    found: list[tuple[float, float, SeenMouth]] = []
    for candidate in seen:
        if candidate.relative_gap < LEAST_OPEN * widest or candidate.teeth < LEAST_TEETH:
            continue  # pulled over a wider mouth, it would be smeared
        others = [mouth for mouth in seen if abs(mouth.number - candidate.number) >= apart]
        if len(others) < LEAST_TESTS:
            continue
        share, sharp = _compared(candidate.own, others)
        if share < MOST_ERROR and SHARP[0] < sharp < SHARP[1]:
            found.append((share / (1 + candidate.teeth), share, candidate))
    if not found:
        log.info("%s shows no inside of a mouth that does for others: it is painted.", film.source)
        return None
    _, share, best = min(found, key=lambda rated: rated[0])  # of two that do, the one with more teeth
    log.info(
        "the inside of the mouth in %s is that of its frame %d: %.2f of the error of a painted one.", film.source,
        best.number, share,
    )  # fmt: skip
    return best.own


def tried_frames(film: Film, scene: int) -> list[int]:
    """Numbers of the sharpest frames with an open mouth in each of `TRIED` parts of a scene, in rising order."""
    track = film.track
    among = track.valid if film.scenes is None else track.valid & (film.scenes == scene)
    frames = torch.nonzero(among).flatten()
    opened = [part[_relative_gaps(track.px_of(part)) >= OPEN] for part in frames.split(BLOCK)]
    opened = torch.cat(opened) if opened else frames
    if not len(opened):
        return []
    sharpness = torch.ones(len(track)) if film.sharpness is None else film.sharpness
    parts = torch.tensor_split(opened, min(TRIED, len(opened)))
    return [int(part[sharpness[part].argmax()]) for part in parts]


def _relative_gaps(points: Tensor) -> Tensor:
    """(T,) gap between the lips of (T, 478, 3) landmarks in pixels, over their width."""
    upper, lower, right, left = (points[:, at, :2] for at in (topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM, 78, 308))
    return (upper - lower).norm(dim=1) / (right - left).norm(dim=1).clamp(min=1e-3)


def _seen_mouths(film: Film, frames: list[int], turned: TurnedFace) -> list[SeenMouth]:
    """What a film shows in some of its frames; drawn faces have no inside of their own."""
    in_file = {at: at if film.order is None else int(film.order[at]) for at in frames}
    numbers = sorted(set(in_file.values()))
    unlit, seen = FilmedFace(turned, float(film.track.fps), film.mouth_colours), []
    for number, picture in zip(numbers, pictures_at(film.path, film.track.fps, numbers), strict=True):
        at = next(at for at in frames if in_file[at] == number)
        face = copy(unlit)
        filmed = film.track.px_of(at)
        face.follow_light(picture, filmed)
        own = OwnInside.of(picture, filmed[:, :2], face.placed(filmed, at), face.skin)
        if face.flat or own is None:
            return []
        seen.append(_seen_mouth(at, filmed, own, face))
    return seen


def _seen_mouth(number: int, filmed: Tensor, own: OwnInside, face: FilmedFace) -> SeenMouth:
    mouth = Aperture.of(filmed[:, :2], MOUTH)
    u = torch.linspace(-ASIDE, ASIDE, COLUMNS) * mouth.width
    top, bottom = (edge[:, None] for edge in mouth.edge_heights(u))
    v = torch.lerp(top, bottom, torch.linspace(INSET, 1 - INSET, ROWS))
    places = mouth.pixels_of(u[:, None], v)
    flat = [values.expand(COLUMNS, ROWS).flatten() for values in (v, top, bottom)]
    at = (places.flatten(0, 1), *flat, face.placed(filmed, number), filmed)
    counts = (bottom - top)[:, 0] > LEAST_GAP * mouth.width
    true, lips = own.sample(places).permute(2, 0, 1), own.sample(filmed[list(LIPS), :2]).median(0).values
    return SeenMouth(number, mouth.gap / mouth.width, own, face, at, counts, true, lips)


def _redness(colours: Tensor) -> Tensor:
    """(…) red over green, of all light, of (3, …) colours 0..255."""
    return (colours[0] - colours[1]) / (colours.sum(0) + 1)


def _compared(own: OwnInside, others: list[SeenMouth]) -> tuple[float, float]:
    """Squared error of an inside in other mouths, over that of painted ones; gradients over the film's own."""
    errors, painted, sharp, true = 0.0, 0.0, 0.0, 0.0
    for mouth in others:
        drawn = mouth.drawn(own)
        errors, painted = errors + mouth.error(drawn), painted + mouth.painted_error
        sharp, true = sharp + mouth.sharpness(drawn), true + mouth.true_sharpness
    return errors / max(painted, 1e-6), (sharp / max(true, 1e-6)) ** 0.5
