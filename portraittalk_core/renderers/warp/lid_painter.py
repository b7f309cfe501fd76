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

from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture, Array, Box, pixel_axes, pixel_box, soft_step, soft_steps
from .eyes import HIDDEN
from .fill import filled
from .painters import FramePose, within
from .sampler import Sampler

EYES = (RIGHT_EYE, LEFT_EYE)
LEAST_SHUT, WHOLE_SHUT = 0.02, 0.12  # of a lid's way: where painting begins, and where it hides all beneath
# of an eye's width
LASHES, MARGIN = 0.10, 0.012  # of the strip that moves with the lid's edge, above it and below it
USUAL = 0.30  # height of an open eye
OVERLAP = 0.06  # how far a shut lid reaches over the lower one's edge
FADE = 0.14  # over which the lid's skin begins above the lashes
HIGHEST_LASH = 0.05  # how far above an upper lid's landmarks its lash line may lie
HANG = 0.10  # how far the lashes of a shut eye hang down
TAPERS = 0.44  # aside of an eye's middle: where half of a shut eye's lash line is left
SHADE_REACH = 0.07  # of the lid's shadow on the eye
ABOVE, BELOW = (0.10, 0.26), (0.12, 0.30)  # from its edges: where a lid's colour is looked for
PLACES, HEIGHTS = 24, 6  # at which it is, on either side
UNLIKE = 80.0  # levels from a lid's usual colour: what differs more is no skin
# of an eye's width: half the sides of the map of a lid's colours, and its step
MAP_ASIDE, MAP_HIGH, MAP_STEP = 0.75, 0.7, 0.025
HIDES_ABOVE, HIDES_BELOW = LASHES + FADE / 2, 0.08  # beyond its edges: what an eye's lashes and rims may cover
CORNER = 0.35  # weight of what is dark beside the corners: a lid turns away from the light there
DARKER = 15.0, 40.0  # levels below a lid's usual colour at which a place beside it counts less, and not at all
BETWEEN = (-1 / 3, 0.0, 1 / 3)  # of a pixel: where lashes, which are flattened as a lid shuts, are looked up for each
BRIGHT = 0.65  # quantile of these: lashes, brows, paint and glasses are darker
LEAST_LASHES_PX = 2.5  # which are not flattened: a line that is thinner than a pixel looks dashed
FLATTENED = 0.5  # height of a shut eye's lashes above the lid's edge, of an open one's
# where the grain of a lid is taken, of an eye's width: below the eye, so far aside, from where on, and how deep
GRAIN_ASIDE, GRAIN_FROM, GRAIN_DEEP = 0.6, 0.20, 0.34
GRAIN_SIZE = 0.03  # what is smaller than twice this is grain
GRAIN_MOST, GRAIN_LOUD = 3.5, 7.0  # how far a grain may stand out, and what is none, of their median
GRAIN_LEVELS = 4.0  # the most that this counts


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
        self.skins = [Skin.of(eye, colours_at) for eye in rest]
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

    def _close(self, region: Tensor, edge: Tensor, eye: Aperture, shut: float, skin: Skin) -> None:
        """Paint one lid that has closed by `shut`, in place; `edge` are the landmarks (N, 2) of the open eye."""
        box = pixel_box(edge, 0.3 * eye.width, self.box)
        if box is None:
            return
        planes = region.numpy()[(slice(None), *within(box, self.box))]
        u, v = (axis.numpy() for axis in eye.axes_on(*pixel_axes(box)))
        top, bottom = eye.edges_at(u)
        width, late = eye.width, _late(shut)
        lid = top + np.float32(shut) * (bottom - top + OVERLAP * width)
        lowest = np.maximum(bottom, lid + (HANG if late > 0 else MARGIN) * width + 1)
        near = (np.abs(u) < 0.56 * width) & (v > top - (LASHES + FADE) * width) & (v < lowest)
        inside = np.flatnonzero(near)
        if not len(inside):
            return
        u, v, top, bottom, lid = (values.ravel()[inside] for values in (u, v, top, bottom, lid))
        rows, columns = np.divmod(inside, planes.shape[2])
        out = planes[:, rows, columns]
        patch = _Patch(torch.from_numpy(np.ascontiguousarray(planes)), columns, rows, eye)
        above = lid - v  # of the lid's edge, pixels
        ends = 1 - soft_steps(np.abs(u) - 0.5 * width, 0.12 * width)
        amount = ends * np.float32(min(1.0, shut / WHOLE_SHUT))
        lashes, arch = _arch(u, eye)
        from_lashes = (v - top) / arch + (LASHES + FADE / 2) * width
        colour = skin.colours(u, v, above, width)
        cover = soft_steps(above, 1.3) * soft_steps(from_lashes, FADE * width) * amount
        shade = 0.93 + 0.15 * _bulge(u / np.float32(width), (v - top) / np.maximum(lid - top, 1))
        eyeball = np.exp(np.minimum(above, 0) * np.float32(1 / (SHADE_REACH * width)))
        out *= 1 - 0.3 * eyeball * ends * ((above < 0) & (bottom > v))
        out += (colour * shade - out) * cover
        # the lash line and the lashes, from the place where they rest
        height = max(lashes * (1 + (FLATTENED - 1) * late), min(lashes, LEAST_LASHES_PX / width))
        strip = soft_steps(above + MARGIN * width, 1.3)
        strip *= 1 - soft_steps(above - 0.7 * height * width, 0.6 * height * width)
        at = np.flatnonzero(strip)
        line = np.float32(skin.lash_line * width)
        places = [above[at] + between for between in map(np.float32, BETWEEN)]
        moved = sum(
            patch.shifted(at, top[at] - line - np.maximum(place, 0) * (lashes / height) - v[at]) for place in places
        ) / len(places)
        out[:, at] += (moved - out[:, at]) * (strip * amount)[at] * _taper(u[at], width, late)
        if late > 0:
            fade = soft_steps(-above - MARGIN * width, max(1.3, 0.02 * width))
            fade *= 1 - soft_steps(-above - 0.4 * HANG * width, 0.6 * HANG * width)
            at = np.flatnonzero(fade)
            hanging = patch.shifted(at, top[at] - np.abs(above[at]) * (lashes / HANG) - v[at]).mean(0)
            darker = np.clip(hanging / np.maximum(colour[:, at].mean(0), 1), 0, 1)
            out[:, at] *= 1 + (darker - 1) * (fade * ends)[at] * _taper(u[at], width, late) * np.float32(late)
        planes[:, rows, columns] = np.clip(out, 0, 255)


def _arch(u: Array, eye: Aperture) -> tuple[float, Array]:
    """Height of an eye's lashes, of its width, and that of the lid above them at `u` (N,), of the usual one.

    Narrow eyes have low lids, and all lids are low at their ends.
    """
    lashes = LASHES * min(1.0, eye.gap / (USUAL * eye.width))
    ends = np.sqrt(np.maximum(1 - np.square(u * np.float32(1 / (0.56 * eye.width))), 0.02))
    return lashes, ends * np.float32(lashes / LASHES)


def _bulge(aside: Array, down: Array) -> Array:
    """0..1 how much light the eyeball's bulge gives a lid, `aside` (N,) eye widths from its middle, `down` it 0..1."""
    down = np.clip(down, 0, 1)
    return 4 * down * (1 - down) * np.maximum(1 - np.square(aside * np.float32(1 / 0.56)), 0)


def _taper(u: Array, width: float, late: float) -> Array:
    """0..1 how much of a lash line goes down at `u` (N,): of a shut eye's, little beside the lashes that stay."""
    return 1 - np.float32(late) * soft_steps(np.abs(u) - TAPERS * width, 0.2 * width)


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


@dataclass(frozen=True)
class Skin:
    """The skin of one upper lid: its colours on the shut eye, and the grain of the skin beside it."""

    colour_map: Tensor  # (1, 3, rows, columns) 0..255 around the eye's origin
    grain: Array  # (3, rows · columns) levels around 0, a pixel of the portrait each
    columns: int
    eye_px: float  # width of the eye there
    lash_line: float  # how far above its landmarks the lash line is darkest, of that width

    @staticmethod
    def of(eye: Aperture, colours_at: Sampler) -> Skin:
        """That of an eye in the portrait."""
        columns, rows = max(4, round(2 * GRAIN_ASIDE * eye.width)), max(4, round(GRAIN_DEEP * eye.width))
        u = (torch.arange(columns) + 0.5) / columns * 2 * GRAIN_ASIDE - GRAIN_ASIDE
        v = GRAIN_FROM + (torch.arange(rows) + 0.5) / rows * GRAIN_DEEP
        bottom = eye.edge_heights(u * eye.width)[1]
        across = torch.stack([-eye.along[1], eye.along[0]])
        heights = bottom + v[:, None] * eye.width
        at = eye.origin + (u * eye.width)[:, None] * eye.along + heights[..., None] * across
        skin = colours_at(at).permute(2, 0, 1)
        reach = max(1, round(GRAIN_SIZE * eye.width))
        smooth = F.avg_pool2d(F.pad(skin[None], (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)[0]
        grain = skin - smooth
        # wrinkles, lashes and rims of glasses are no grain, nor is what lies beside them
        level = grain.abs().median().clamp(max=GRAIN_LEVELS)
        loud = F.max_pool2d((grain.abs().amax(0, keepdim=True) > GRAIN_LOUD * level).float(), 2 * reach + 1, 1, reach)
        grain = grain.clamp(-GRAIN_MOST * level, GRAIN_MOST * level) * (1 - loud)
        return Skin(
            _colour_map(eye, colours_at),
            grain.flatten(1).numpy(),
            columns,
            eye.width,
            _lash_line(eye, colours_at),
        )

    def colours(self, u: Array, v: Array, above: Array, width: float) -> Array:
        """(3, N) colours 0..255 of a lid.

        Args:
            u: (N,) along the eye, pixels.
            v: (N,) across it, pixels.
            above: (N,) above its lid's edge, pixels.
            width: of the eye, pixels.
        """
        at = np.stack([u * np.float32(1 / (MAP_ASIDE * width)), v * np.float32(1 / (MAP_HIGH * width))], 1)
        smooth = F.grid_sample(
            self.colour_map, torch.from_numpy(at)[None, None], padding_mode="border", align_corners=True
        )[0, :, 0].numpy()
        finer = np.float32(self.eye_px / width)
        column = np.clip((u * finer + self.columns / 2).astype(np.intp), 0, self.columns - 1)
        # the strip is as high as the lid of a wide eye; a higher one sees it mirrored
        rows = self.grain.shape[1] // self.columns
        row = np.abs(above * finer).astype(np.intp) % (2 * rows)
        return smooth + self.grain.take(np.minimum(row, 2 * rows - 1 - row) * self.columns + column, 1, mode="clip")


def _colour_map(eye: Aperture, colours_at: Sampler) -> Tensor:
    """(1, 3, rows, columns) colours 0..255 of a shut eye's lid: those of the skin on all its sides.

    They go over into each other, so that a lid is lit as the face around it.
    """
    across = torch.stack([-eye.along[1], eye.along[0]])
    columns, rows = (2 * round(half / MAP_STEP) + 1 for half in (MAP_ASIDE, MAP_HIGH))
    aside = torch.linspace(-MAP_ASIDE, MAP_ASIDE, columns)
    u, v = aside * eye.width, torch.linspace(-MAP_HIGH, MAP_HIGH, rows)[:, None] * eye.width
    colours = colours_at(eye.origin + u[:, None] * eye.along + v[..., None] * across).permute(2, 0, 1)
    top, bottom = eye.edge_heights(u)
    begins = top - HIDES_ABOVE * eye.width * torch.from_numpy(_arch(u.numpy(), eye)[1])
    lid = (v > begins) & (v < bottom + HIDES_BELOW * eye.width) & (aside.abs() < 0.56)
    differs = colours - _along(_lid_colours(eye, colours_at), aside)[:, None]
    light = soft_step(differs.mean(0) + sum(DARKER) / 2, DARKER[1] - DARKER[0])
    skin = torch.where(aside.abs() > 0.5, light.clamp(min=CORNER), light) * (differs.abs().amax(0) < UNLIKE)
    kernel = torch.hann_window(7, periodic=False)[1:-1]
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(3, 1, 5, 5)
    whole = filled(colours, skin * ~lid)[None]
    return F.conv2d(F.pad(whole, (2,) * 4, mode="replicate"), kernel, groups=3)


def _lid_colours(eye: Aperture, colours_at: Sampler) -> Tensor:
    """(3, PLACES) colours 0..255 of the skin above an eye, from its one end to the other."""
    u = torch.linspace(-0.5, 0.5, PLACES) * eye.width
    top, bottom = eye.edge_heights(u)
    above, below = (torch.linspace(*reach, HEIGHTS)[:, None] * eye.width for reach in (ABOVE, BELOW))
    v = torch.cat([top - above, bottom + below])  # (2 · HEIGHTS, PLACES)
    across = torch.stack([-eye.along[1], eye.along[0]])
    colours = colours_at(eye.origin + u[:, None] * eye.along + v[..., None] * across)
    order = colours.mean(-1).argsort(0)[int(BRIGHT * (2 * HEIGHTS - 1))]
    return _smooth(colours.gather(0, order[None, :, None].expand(1, -1, 3))[0].T)


def _lash_line(eye: Aperture, colours_at: Sampler) -> float:
    """How far above an upper lid's landmarks its lash line is darkest, of the eye's width."""
    u = torch.linspace(-0.3, 0.3, PLACES) * eye.width
    rises = torch.linspace(0, HIGHEST_LASH * min(1.0, eye.gap / (USUAL * eye.width)), HEIGHTS)
    v = eye.edge_heights(u)[0] - rises[:, None] * eye.width
    across = torch.stack([-eye.along[1], eye.along[0]])
    return float(rises[colours_at(eye.origin + u[:, None] * eye.along + v[..., None] * across).mean((1, 2)).argmin()])


def _along(colours: Tensor, places: Tensor) -> Tensor:
    """(3, N) of colours (3, PLACES) along an eye, at places (N,) −0.5..0.5 on it; beyond them, those of its ends."""
    place = ((places + 0.5) * (PLACES - 1)).clamp(0, PLACES - 1.001)
    index = place.long()
    return torch.lerp(colours[:, index], colours[:, index + 1], place - index)


def _smooth(colours: Tensor) -> Tensor:
    """Colours (3, PLACES), smoothed along an eye."""
    smooth = F.pad(colours[None], (4, 4), mode="replicate")
    kernel = torch.hann_window(9, periodic=False) + 1e-3
    return F.conv1d(smooth, (kernel / kernel.sum()).expand(3, 1, 9), groups=3)[0]
