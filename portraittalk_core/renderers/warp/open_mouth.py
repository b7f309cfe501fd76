"""A mouth that is open in the portrait: the true edges of its lips, and its own teeth, tongue and darkness within.

A landmark lies a pixel or two off a lip's edge, in drawings more. Without the true edges a rim of teeth sticks to the
closing lips, and shards of lip to the teeth.

Upper teeth stay with the skull; what the picture shows below them rides on the jaw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, Array, soft_steps
from .sampler import Sampler

SHOWS_TEETH = 0.06  # inner-lip gap over mouth width from which a portrait's own mouth interior is used
RIM = 0.018  # of the mouth's width: how far inside the lips their texture begins
LEAST_RIM_PX = 1.5  # and at least so far: a camera blurs teeth over the edge, however small the mouth is
REACH = 0.09  # of the mouth's width: how far a lip's edge is looked for around its landmarks
MAX_MOVE = 0.45  # of a lip's thickness, that its edge may be moved into it
INTO = 0.035  # of the mouth's width: an edge is not looked for further inside, where a tooth may look like a lip
INSIDE = (0.05, 0.08, 0.12, 0.2, 1.0)  # of the mouth's width, at most to its middle: where its inside is sure
OF_MOUTH = 0.35  # how much more alike the mouth's inside than the lip's middle what counts as its inside must be
INSET = 0.03  # of the mouth's width: the interior is taken so far from the lips
NOISE = 3.0  # levels by which colours of one thing differ
STEPS = 25  # positions compared across a lip's edge
COLUMNS, HEIGHTS = 15, 24  # grid on which teeth are looked for
SHOWS_BELOW = 0.05  # of the mouth's width: less than this below the teeth is only their shadow
TOOTH_SHARE = 0.12  # of a column's height, that the upper teeth must fill to be seen


@dataclass(frozen=True)
class OpenMouth:
    """The inside of a mouth that is open at rest."""

    aperture: Aperture  # of the lips' true edges
    teeth_end: Tensor  # (3,) v = c0 + c1·u + c2·u² where the upper teeth end
    shows_below: bool  # whether tongue, lower teeth or darkness are seen below them

    def colours(self, sample: Sampler, u: Array, v: Array, bottom: Array, paint: Callable[[Array], Array]) -> Array:
        """The inside in a frame.

        Args:
            sample: the portrait's colours.
            u: (N,) positions on the unmoved head, along the mouth.
            v: (N,) across it.
            bottom: (N,) `v` of the lower lip's edge now.
            paint: (3, n) colours 0..255 of what is seen where the portrait shows nothing, at n of the places.

        Returns:
            (3, N) colours 0..255.
        """
        mouth = self.aperture
        soft = INSET * mouth.width
        top, rest_bottom = mouth.edges_at(u)
        room = rest_bottom - top
        inset = np.clip(0.4 * room, 0, soft)  # the corners are narrow
        end = np.minimum(np.maximum(self._end(u), top), rest_bottom)
        highest, lowest = top + inset, rest_bottom - inset
        within = 1 - soft_steps(np.abs(u) - 0.47 * mouth.width, 0.05 * mouth.width)
        within *= np.clip(room * np.float32(0.5 / soft), 0, 1)  # a corner shows lip or skin
        below = soft_steps(v - end, soft)
        # each place needs the portrait's upper part, the lower one or the painting, few of them two
        upper, lower = (np.flatnonzero((share > 0) & (within > 0)) for share in (1 - below, below))
        if not self.shows_below:
            lower = lower[:0]
        result = np.zeros((3, len(u)), np.float32)
        stands = np.minimum(np.maximum(v[upper], highest[upper]), lowest[upper])
        rides = self._riding(v[lower], end[lower], rest_bottom[lower], bottom[lower] - rest_bottom[lower])
        rides = np.maximum(np.minimum(rides, lowest[lower]), highest[lower])
        at = np.concatenate([upper, lower])
        places = torch.from_numpy(u[at]), torch.from_numpy(np.concatenate([stands, rides]))
        sampled = sample(mouth.pixels_of(*places)).numpy().T
        result[:, upper] = sampled[:, : len(upper)] * (within * (1 - below))[upper]
        result[:, lower] += sampled[:, len(upper) :] * (within * below)[lower]
        rest = 1 - within * (1 if self.shows_below else 1 - below)
        needed = np.flatnonzero(rest > 0)
        result[:, needed] += paint(needed) * rest[needed]
        return result

    @staticmethod
    def _riding(v: Array, end: Array, rest_bottom: Array, dropped: Array) -> Array:
        """Where what rides on the jaw lay at rest; between the teeth and it the inside is stretched."""
        room = 0.5 * np.maximum(rest_bottom - end, np.float32(1e-3))
        return np.maximum(v - dropped, end + (v - end) * room / (room + np.maximum(dropped, 0)))

    def _end(self, u: Array) -> Array:
        c0, c1, c2 = self.teeth_end.tolist()
        return c0 + u * (c1 + u * c2)


def look_into(sample: Sampler, points_px: Tensor) -> OpenMouth:
    """Measure what an open resting mouth shows.

    Args:
        sample: the portrait's colours.
        points_px: (478, 2) landmarks, inner lips on their true edges (`on_lip_edges`).
    """
    mouth = Aperture.of(points_px, MOUTH)
    u = torch.linspace(-0.4, 0.4, COLUMNS) * mouth.width
    top, bottom = mouth.edge_heights(u)
    share = (torch.arange(HEIGHTS) + 0.5) / HEIGHTS
    v = top[:, None] + share * (bottom - top)[:, None]
    brightness = sample(mouth.pixels_of(u[:, None], v)).mean(-1)  # (COLUMNS, HEIGHTS)
    is_tooth = _teeth(brightness)
    # the first run of bright pixels from above, over small dark gaps, such as a lip's shadow
    ends = torch.stack([_end_of_first_run(column) for column in is_tooth])
    seen = torch.isfinite(ends)
    if int(seen.sum()) < COLUMNS // 3:
        return OpenMouth(mouth, _parabola(u, top), shows_below=True)
    ends = _median_of_three(torch.where(seen, ends, ends[seen].median()))
    heights = top + ends * (bottom - top)
    below = (bottom - heights)[seen].median()
    rim = max(0.0, LEAST_RIM_PX - RIM * mouth.width)  # what a small mouth's lips were cut more, is no inside
    if float(below) < SHOWS_BELOW * mouth.width + rim:
        return OpenMouth(mouth, _parabola(u, bottom), shows_below=False)
    return OpenMouth(mouth, _parabola(u[seen], heights[seen]), shows_below=True)


def on_lip_edges(sample: Sampler, points_px: Tensor) -> Tensor:
    """(478, 2) landmarks with the inner lips on the edges that the picture shows, their other rings in proportion."""
    mouth = Aperture.of(points_px, MOUTH)
    columns = slice(1, -1)
    rings = {
        side: torch.stack([points_px[list(ring[columns])] for ring in lip])  # (4, 9, 2) outer to inner
        for side, lip in ((1.0, topo.UPPER_LIP_RINGS), (-1.0, topo.LOWER_LIP_RINGS))
    }
    middles = (rings[1.0][3] + rings[-1.0][3]) / 2
    moved = points_px.clone()
    for side, lip in ((1.0, topo.UPPER_LIP_RINGS), (-1.0, topo.LOWER_LIP_RINGS)):
        into = side * mouth.across  # from the lip into the mouth
        outer, inner = rings[side][0], rings[side][3]
        thickness = ((inner - outer) @ into).clamp(min=1.0)
        depth = ((middles - inner) @ into).clamp(min=0)  # half of the gap
        offset = _edge_offsets(sample, rings[side], into, thickness, depth, mouth.width)
        offset = torch.maximum(offset - max(RIM * mouth.width, LEAST_RIM_PX), -MAX_MOVE * thickness)
        for ring, carry in zip(lip, (0.0, 1 / 3, 2 / 3, 1.0), strict=True):
            moved[list(ring[columns])] += carry * offset[:, None] * into
    return moved


def _edge_offsets(
    sample: Sampler, rings: Tensor, into: Tensor, thickness: Tensor, depth: Tensor, width: float
) -> Tensor:
    """(9,) pixels from the inner lip's landmarks to its edge; positive is into the mouth."""
    inner = rings[3]
    steps = torch.linspace(-REACH, REACH, STEPS) * width
    colours = sample(inner[:, None] + steps[:, None] * into)  # (9, STEPS, 3)
    inside = torch.minimum(depth[:, None], torch.tensor(INSIDE) * width)
    of_mouth = sample(inner[:, None] + inside[..., None] * into)
    of_lip = sample(torch.stack([rings[1], rings[2], (rings[0] + rings[1]) / 2], 1))
    # where landmarks are far off, a lip's innermost third lies in the mouth
    to_mouth, to_lip = (torch.cdist(of_lip[:, 1:2], others).amin((1, 2)) for others in (of_mouth, of_lip[:, :1]))
    of_lip[:, 1] = torch.where((to_mouth < OF_MOUTH * to_lip)[:, None], of_lip[:, 0], of_lip[:, 1])
    of_mouth, of_lip = _with_neighbours(of_mouth), _with_neighbours(of_lip)
    from_lip, from_mouth = (torch.cdist(colours, exemplars).amin(-1) for exemplars in (of_lip, of_mouth))
    # −½ is surely lip, ½ surely mouth; the best edge has lip before and mouth behind
    mouthness = (from_lip + NOISE) / (from_lip + from_mouth + 2 * NOISE) - 0.5
    known = (steps > -0.8 * thickness[:, None]) & (steps < INTO * width)
    mouthness = torch.where(known, mouthness, torch.zeros_like(mouthness))
    before = F.pad(mouthness.cumsum(1), (1, 0))  # (9, STEPS + 1): of an edge before each step
    cost = 2 * before - before[:, -1:]
    edges = torch.cat([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
    cost = cost + 0.02 * STEPS * (edges / (REACH * width)).square()
    offset = edges[cost.argmin(1)]
    offset = _median_of_three(offset)
    padded = torch.cat([offset[:1], offset, offset[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _teeth(brightness: Tensor) -> Tensor:
    """Which of (C, H) brightnesses of a mouth's inside are teeth."""
    dark, light = brightness.quantile(0.08), brightness.quantile(0.92)
    if float(light - dark) < 0.25 * float(light):
        return torch.full_like(brightness, bool(light > 110), dtype=torch.bool)
    return brightness > dark + 0.55 * (light - dark)


def _end_of_first_run(is_tooth: Tensor) -> Tensor:
    """Where the upper teeth end in one column, as a share of its height; NaN where there are none."""
    rows = len(is_tooth)
    start = int(is_tooth.int().argmax())
    if not bool(is_tooth[start]) or start > rows // 3:
        return torch.tensor(float("nan"))
    dark = torch.nonzero(~is_tooth[start:])
    end = rows if not len(dark) else start + int(dark[0])
    return torch.tensor(end / rows if end - start >= TOOTH_SHARE * rows else float("nan"))


def _parabola(u: Tensor, v: Tensor) -> Tensor:
    """(3,) least-squares coefficients of v over u."""
    basis = torch.stack([torch.ones_like(u), u, u * u], 1).double()
    return torch.linalg.lstsq(basis, v.double()[:, None]).solution[:, 0].float()


def _median_of_three(values: Tensor) -> Tensor:
    padded = torch.cat([values[:1], values, values[-1:]])
    return padded.unfold(0, 3, 1).median(1).values


def _with_neighbours(colours: Tensor) -> Tensor:
    """(9, 3·N, 3): the exemplars of each column and of the two beside it."""
    padded = torch.cat([colours[:1], colours, colours[-1:]])
    return torch.cat([padded[:-2], padded[1:-1], padded[2:]], 1)
