"""Upper lids that close: skin over the eye, and the portrait's own lash line that moves down with the lid's edge.

The field does not move an upper lid downward: it would stretch the lashes over the whole lid, and bend what lies above
it, such as the rim of glasses. Shapes: B frames; h, w a box around an eye; u, v as in `Aperture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture, Array, Box, pixel_axes, pixel_box, soft_steps
from .eyes import HIDDEN
from .lid_skin import REACH_ABOVE, REACH_ASIDE, THICKNESS, USUAL, LidSkin
from .painters import FramePose, within
from .sampler import Sampler

EYES = (RIGHT_EYE, LEFT_EYE)
LEAST_SHUT, WHOLE_SHUT = 0.02, 0.12  # of a lid's way: where painting begins, and where it hides all beneath
FLAT = 0.5  # of a lid's way: where no crease is left above it
# of an eye's width
LASHES, MARGIN = 0.10, 0.012  # of the strip that moves with the lid's edge, above it and below it
CREASE_FROM = 0.12  # above an open lid's edge: where lashes end, and a crease may be
OVERLAP = 0.06  # how far a shut lid reaches over the lower one's edge
HANG = 0.10  # how far the lashes of a shut eye hang down
ENDS = 0.55  # aside of an eye's middle: where half of what is painted of lashes and shadows is left
TAPERS = 0.44  # where half of a shut eye's own lashes is left, which lie beside those that stay
LINE_ENDS = 0.47, 0.16  # where half of a shut eye's dark line is left, and over which it ends
SHADE_REACH = 0.07  # of the lid's shadow on the eye
CORNER_FROM = 0.4  # from where on a lid's edge becomes soft, towards the corners
BULGE, TURNED = 0.10, 0.15  # of a lid's light: what the eyeball's bulge adds, and what is lost at its lower ends
BETWEEN = (-1 / 3, 0.0, 1 / 3)  # of a pixel: where lashes, which are flattened as a lid shuts, are looked up for each
LEAST_LASHES_PX = 2.5  # which are not flattened: a line that is thinner than a pixel looks dashed
FLATTENED = 0.5  # height of a shut eye's lashes above the lid's edge, of an open one's
LINE = 0.56, 0.8  # of a lash line's thickness: how far a shut eye's reaches up and down; and pixels, at least


class LidPainter:
    """Closes the upper lids of one portrait.

    Args:
        points: (478, 2) its landmarks, pixels.
        skin: numbers of the landmarks between its upper lids and brows.
        colours_at: (…, 3) colours 0..255 of the portrait at (…, 2) positions.
        box: the region that is painted.
    """

    def __init__(self, points: Tensor, skin: Sequence[int], colours_at: Sampler, box: Box) -> None:
        self.source, self.box = torch.cat([points, torch.ones(len(points), 1)], 1), box
        rest = [Aperture.of(points, chains) for chains in EYES]
        self.skins = [LidSkin.of(eye, colours_at) for eye in rest]
        widest = max(eye.width for eye in rest)
        self.faces = [eye.width > HIDDEN * widest for eye in rest]  # the viewer: of a profile one is hidden
        edges = {point for upper, _ in EYES for point in upper}
        above = points[sorted(set(skin) - edges)]
        nearest = torch.stack([(above - eye.origin).norm(dim=1) for eye in rest]).argmin(0)
        numbers = torch.tensor(sorted(set(skin) - edges), dtype=torch.long)
        self.skin_points = [numbers[nearest == side] for side in (0, 1)]

    def held_open(self, targets: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks whose closing upper lids stay where they rest on the head.

        Args:
            targets: (B, 478, 2) landmarks, pixels.
            heads: (B, 3, 2) affines that carry positions (x, y, 1) of the portrait.

        Returns:
            (B, 478, 2) landmarks, and (B, 2) the way that the right and the left lid have closed, 0..1.
        """
        held, shut = targets.clone(), torch.zeros(len(targets), 2)
        for side, (upper, lower) in enumerate(EYES):
            lid, beneath = list(upper[1:-1]), targets[:, list(lower[1:-1])]
            resting = self.source[lid] @ heads
            way = beneath - resting
            length = way.norm(dim=2)[:, 2:-2].mean(1).clamp(min=1e-3)
            down = F.normalize(way[:, 2:-2].mean(1), dim=1)[:, :, None]
            share = (((targets[:, lid] - resting) @ down)[:, 2:-2, 0].mean(1) / length).clamp(0, 1)
            closes = share > LEAST_SHUT
            shut[:, side] = share * closes * self.faces[side]
            held[:, lid] = torch.where(closes[:, None, None], resting, held[:, lid])
            moved = ((targets[:, self.skin_points[side]] - self.source[self.skin_points[side]] @ heads) @ down).clamp(
                min=0
            )
            held[:, self.skin_points[side]] -= torch.minimum(moved, (shut[:, side] * length)[:, None, None]) * down.mT
        return held, shut

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`."""
        for chains, eye, shut, skin in zip(EYES, pose.eyes, pose.shut, self.skins, strict=True):
            if shut > 0:
                self._close(region, pose.points[[*chains[0], *chains[1]]], eye, shut, skin)

    def _close(self, region: Tensor, edge: Tensor, eye: Aperture, shut: float, skin: LidSkin) -> None:
        """Paint one lid that has closed by `shut`, in place; `edge` are the landmarks (N, 2) of the open eye."""
        box = pixel_box(edge, 0.3 * eye.width, self.box)
        if box is None:
            return
        planes = region.numpy()[(slice(None), *within(box, self.box))]
        u, v = (axis.numpy() for axis in eye.axes_on(*pixel_axes(box)))
        top, bottom = eye.edges_at(u)
        width, late = eye.width, _late(shut)
        lid = top + np.float32(shut) * (bottom - top + OVERLAP * width)
        lowest = np.maximum(bottom, lid + (2 * LINE[0] * THICKNESS[1] if late > 0 else MARGIN) * width + 1)
        inside = np.flatnonzero((np.abs(u) < REACH_ASIDE * width) & (v > top - REACH_ABOVE * width) & (v < lowest))
        if not len(inside):
            return
        u, v, top, bottom, lid = (values.ravel()[inside] for values in (u, v, top, bottom, lid))
        rows, columns = np.divmod(inside, planes.shape[2])
        out = planes[:, rows, columns]
        patch = _Patch(torch.from_numpy(np.ascontiguousarray(planes)), columns, rows, eye)
        above, aside = lid - v, np.abs(u)  # of the lid's edge, and of the eye's middle, pixels
        begun = np.float32(min(1.0, shut / WHOLE_SHUT))
        ends = 1 - soft_steps(aside - ENDS * width, 2 * (REACH_ASIDE - ENDS) * width)
        colour, cover = skin.colours(u, v, above, width)
        softness = np.float32(1.3) + np.maximum(aside - np.float32(CORNER_FROM * width), 0)
        creased = soft_steps(top - v - np.float32(CREASE_FROM * width), 0.08 * width)
        cover *= soft_steps(above / softness, 1.0) * (begun + (min(1.0, shut / FLAT) - begun) * creased)
        eyeball = np.exp(np.minimum(above, 0) * np.float32(1 / (SHADE_REACH * width)))
        out *= 1 - 0.3 * eyeball * ends * ((above < 0) & (bottom > v))
        out += (colour * _light(aside, v, top, lid, width) - out) * cover
        # the lash line and the lashes, from the place where they rest
        lashes = LASHES * min(1.0, eye.gap / (USUAL * width))
        height = max(lashes * (1 + (FLATTENED - 1) * late), min(lashes, LEAST_LASHES_PX / width))
        strip = soft_steps(above + MARGIN * width, 1.3)
        strip *= 1 - soft_steps(above - 0.7 * height * width, 0.6 * height * width)
        at = np.flatnonzero(strip)
        line = np.float32(skin.lash_line * width)
        places = [above[at] + between for between in map(np.float32, BETWEEN)]
        moved = sum(
            patch.shifted(at, top[at] - line - np.maximum(place, 0) * (lashes / height) - v[at]) for place in places
        ) / len(places)
        out[:, at] += (moved - out[:, at]) * (strip * ends)[at] * begun * _taper(aside[at], width, late)
        if late > 0:
            fade = soft_steps(-above - MARGIN * width, max(1.3, 0.02 * width))
            fade *= 1 - soft_steps(-above - 0.4 * HANG * width, 0.6 * HANG * width)
            at = np.flatnonzero(fade)
            hanging = patch.shifted(at, top[at] - np.abs(above[at]) * (lashes / HANG) - v[at]).mean(0)
            darker = np.clip(hanging / np.maximum(colour[:, at].mean(0), 1), 0, 1)
            out[:, at] *= 1 + (darker - 1) * (fade * ends)[at] * _taper(aside[at], width, late) * np.float32(late)
            _draw_line(out, above, u, width, late, skin)
        planes[:, rows, columns] = np.clip(out, 0, 255)


def _draw_line(out: Array, above: Array, u: Array, width: float, late: float, skin: LidSkin) -> None:
    """Darken colours (3, N) in place to the line that all lashes of a shut eye form, as thick as the open eye's."""
    near = np.flatnonzero(np.abs(above) < 2 * max(LINE[0] * THICKNESS[1] * width, LINE[1]))
    above, u = above[near], u[near]
    colour, thickness = skin.lashes(u / np.float32(width))
    line = np.exp(-np.square(above / np.maximum(thickness * np.float32(LINE[0] * width), np.float32(LINE[1]))))
    line *= np.float32(late) * (1 - soft_steps(np.abs(u) - LINE_ENDS[0] * width, LINE_ENDS[1] * width))
    before = out[:, near]
    out[:, near] = before + np.minimum(colour - before, 0) * line


def _light(aside: Array, v: Array, top: Array, lid: Array, width: float) -> Array:
    """(N,) light of a lid, of its skin's: more where the eyeball bulges, less at its lower ends."""
    begins = top - np.float32(REACH_ABOVE * width)
    down = np.clip((v - begins) / np.maximum(lid - begins, 1), 0, 1)
    turned = np.minimum(np.square(aside * np.float32(2 / width)), 1) * down**3
    return 1 + BULGE * _bulge(aside / np.float32(width), down) - TURNED * turned


def _bulge(aside: Array, down: Array) -> Array:
    """0..1 how much light the eyeball's bulge gives a lid, `aside` (N,) eye widths from its middle, `down` it 0..1."""
    return 4 * down * (1 - down) * np.maximum(1 - np.square(aside * np.float32(1 / REACH_ASIDE)), 0)


def _taper(aside: Array, width: float, late: float) -> Array:
    """0..1 how much of a lash line goes down `aside` (N,) pixels: little of a shut one beside the lashes that stay."""
    return 1 - np.float32(late) * soft_steps(aside - TAPERS * width, 0.2 * width)


def _late(shut: float) -> float:
    """0..1 how far a lid is on the last of its way."""
    t = min(1.0, max(0.0, (shut - 0.4) / 0.5))
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class _Patch:
    """A part of a frame as it was, and some of its pixels."""

    colours: Tensor  # (3, h, w)
    columns: NDArray[np.intp]  # (N,)
    rows: NDArray[np.intp]  # (N,)
    eye: Aperture

    def shifted(self, at: NDArray[np.intp], by: Array) -> Array:
        """(3, n) colours of the pixels `at`, each from `by` (n,) pixels further along v."""
        along_x, along_y = self.eye.along.tolist()
        height, width = self.colours.shape[1:]
        x, y = self.columns[at] + 0.5 - by * along_y, self.rows[at] + 0.5 + by * along_x
        grid = torch.from_numpy(np.stack([x * (2 / width) - 1, y * (2 / height) - 1], 1).astype(np.float32))
        return F.grid_sample(
            self.colours[None], grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0].numpy()
