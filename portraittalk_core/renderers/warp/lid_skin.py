"""The skin of an upper lid, which an open eye hides: its colours, its grain, how far it reaches, and its lashes.

A shut lid is as light as the skin beside it; the crease and the lash line of the open eye are gone from where they
were, while brows, rims of glasses and hair stay. Shapes: R, C rows and columns of a map around an eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.aperture import Aperture, Array, soft_step
from .fill import filled
from .sampler import Sampler

USUAL = 0.30  # height of an open eye, of its width
PLACES, HEIGHTS = 24, 6  # along an eye, at which colours are looked for, and on either side of it
# of an eye's width
ABOVE, BELOW = (0.10, 0.26), (0.12, 0.30)  # from its edges: where a lid's colour is looked for
MAP_ASIDE, MAP_HIGH, MAP_STEP = 0.75, 0.7, 0.025  # half the sides of the map of a lid, and its step
# what an open eye, its crease and its lashes may cover: from its middle, and beyond its edges
REACH_ASIDE, REACH_ABOVE, REACH_BELOW = 0.7, 0.30, 0.18
NEAR = 0.15  # from an eye's edge: all is lashes or crease; less of a narrow eye
EDGE = 0.3  # of that reach, over which the lid goes over into the skin around it
FILLED = 0.9  # of that reach, that is filled from beyond
BRIGHT = 0.8  # quantile of a lid's colours: lashes, brows, paint and glasses are darker
DARKER = 10.0, 35.0  # levels below a lid's usual colour at which a place beside it counts less, and not at all
UNLIKE = 80.0  # levels from a lid's usual colour: what differs more is no skin
CORNER = 0.35  # weight of what is dark beside the corners: a lid turns away from the light there
KEPT = 0.42  # of a lid's light: what lacks so much, and goes on above the reach, is a brow, a rim or hair
CREASE = 0.03, 0.15  # of a lid's light: what lacks so much is a crease, in part and as a whole
# lashes, of an eye's width
HIGHEST_LASH = 0.05  # how far above an upper lid's landmarks its lash line may be darkest
LASHES_FROM, LASHES_TO, LASH_STEPS = -0.01, 0.13, 15  # above these: where lashes are
THICKNESS = (0.02, 0.14)  # of a lash line
THIN_AT = 0.56  # from an eye's middle: where a shut eye's has none
# where the grain of a lid is taken, of an eye's width: below the eye, so far aside, from where on, and how deep
GRAIN_ASIDE, GRAIN_FROM, GRAIN_DEEP = 0.6, 0.20, 0.34
GRAIN_SIZE = 0.03  # what is smaller than twice this is grain
GRAIN_MOST, GRAIN_LOUD = 3.5, 7.0  # how far a grain may stand out, and what is none, of their median
GRAIN_LEVELS = 4.0  # the most that this counts


@dataclass(frozen=True)
class LidSkin:
    """The skin and the lashes of one upper lid."""

    lid_map: Tensor  # (1, 4, R, C) around the eye's origin: colours 0..255, and 0..1 how much of a shut lid they are
    grain: Array  # (3, rows · columns) levels around 0, a pixel of the portrait each
    columns: int
    eye_px: float  # width of the eye there
    lash_line: float  # how far above its landmarks the lash line is darkest, of that width
    lash_colours: Tensor  # (4, PLACES) along the eye: the lash line's colour 0..255, and how thick it is, of that width

    @staticmethod
    def of(eye: Aperture, colours_at: Sampler) -> LidSkin:
        """That of an eye in the portrait."""
        columns, rows = max(4, round(2 * GRAIN_ASIDE * eye.width)), max(4, round(GRAIN_DEEP * eye.width))
        u = (torch.arange(columns) + 0.5) / columns * 2 * GRAIN_ASIDE - GRAIN_ASIDE
        v = GRAIN_FROM + (torch.arange(rows) + 0.5) / rows * GRAIN_DEEP
        bottom = eye.edge_heights(u * eye.width)[1]
        skin = _seen(eye, colours_at, u * eye.width, bottom + v[:, None] * eye.width).permute(2, 0, 1)
        reach = max(1, round(GRAIN_SIZE * eye.width))
        smooth = F.avg_pool2d(F.pad(skin[None], (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)[0]
        grain = skin - smooth
        # wrinkles, lashes and rims of glasses are no grain, nor is what lies beside them
        level = grain.abs().median().clamp(max=GRAIN_LEVELS)
        loud = F.max_pool2d((grain.abs().amax(0, keepdim=True) > GRAIN_LOUD * level).float(), 2 * reach + 1, 1, reach)
        grain = grain.clamp(-GRAIN_MOST * level, GRAIN_MOST * level) * (1 - loud)
        lid_map = _lid_map(eye, colours_at)
        lashes = _lash_colours(eye, colours_at, lid_map)
        return LidSkin(lid_map, grain.flatten(1).numpy(), columns, eye.width, _lash_line(eye, colours_at), lashes)

    def colours(self, u: Array, v: Array, above: Array, width: float) -> tuple[Array, Array]:
        """(3, N) colours 0..255 of a lid, and (N,) 0..1 how much of a shut eye they cover.

        Args:
            u: (N,) along the eye, pixels.
            v: (N,) across it, pixels.
            above: (N,) above its lid's edge, pixels.
            width: of the eye, pixels.
        """
        at = _on_map(torch.from_numpy(u), torch.from_numpy(v), width)[None, None]
        smooth = F.grid_sample(self.lid_map, at, padding_mode="border", align_corners=True)[0, :, 0].numpy()
        finer = np.float32(self.eye_px / width)
        column = np.clip((u * finer + self.columns / 2).astype(np.intp), 0, self.columns - 1)
        # the strip is as high as the lid of a wide eye; a higher one sees it mirrored
        rows = self.grain.shape[1] // self.columns
        row = np.abs(above * finer).astype(np.intp) % (2 * rows)
        place = np.minimum(row, 2 * rows - 1 - row) * self.columns + column
        return smooth[:3] + self.grain.take(place, 1, mode="clip"), smooth[3]

    def lashes(self, aside: Array) -> tuple[Array, Array]:
        """(3, N) colours 0..255 of the lash line, and (N,) its thickness, both at places `aside` in eye widths."""
        along = _along(self.lash_colours, torch.from_numpy(aside)).numpy()
        return along[:3], along[3]


def _seen(eye: Aperture, colours_at: Sampler, u: Tensor, v: Tensor) -> Tensor:
    """(H, N, 3) the portrait's colours 0..255 at `u` (N,) along an eye and `v` (H, N) across it, pixels."""
    return colours_at(eye.pixels_of(u, v))


def _on_map(u: Tensor, v: Tensor, width: float) -> Tensor:
    """(…, 2) places on a lid's map, −1..1, of `u` along an eye and `v` across it."""
    return torch.stack([u / (MAP_ASIDE * width), v / (MAP_HIGH * width)], -1)


def _lid_map(eye: Aperture, colours_at: Sampler) -> Tensor:
    """(1, 4, R, C) colours 0..255 of a shut eye's lid, those of the skin on all its sides, and 0..1 where it is.

    They go over into each other, so that a lid is lit as the face around it.
    """
    columns, rows = (2 * round(half / MAP_STEP) + 1 for half in (MAP_ASIDE, MAP_HIGH))
    aside = torch.linspace(-MAP_ASIDE, MAP_ASIDE, columns)
    u, v = aside * eye.width, torch.linspace(-MAP_HIGH, MAP_HIGH, rows)[:, None] * eye.width
    colours = _seen(eye, colours_at, u, v.expand(rows, columns)).permute(2, 0, 1)
    top, bottom = eye.edge_heights(u)
    middle = (top + bottom) / 2
    high = eye.gap / 2 + torch.where(v < middle, REACH_ABOVE, REACH_BELOW) * eye.width
    away = torch.hypot(aside / REACH_ASIDE, (v - middle) / high)  # 1 where the reach ends
    differs = colours - _along(_lid_colours(eye, colours_at), aside)[:, None]
    light = soft_step(differs.mean(0) + sum(DARKER) / 2, DARKER[1] - DARKER[0])
    skin = torch.where(aside.abs() > 0.5, light.clamp(min=CORNER), light) * (differs.abs().amax(0) < UNLIKE)
    whole = filled(colours, skin * (away > FILLED))
    lacks = 1 - colours.mean(0) / whole.mean(0).clamp(min=1)
    near = NEAR * eye.width * min(1.0, eye.gap / (USUAL * eye.width))
    beside = torch.hypot((top - v).clamp(min=0), (aside.abs() - 0.5).clamp(min=0) * eye.width)
    goes_on = (away > 1) & (v < top.min() - near)
    kept = _joined((lacks > KEPT) & goes_on, (lacks > KEPT) & (beside > near))
    lashes = 1 - soft_step(beside - near - MAP_STEP * eye.width, 3 * MAP_STEP * eye.width)
    crease = F.max_pool2d(((lacks - CREASE[0]) / (CREASE[1] - CREASE[0])).clamp(0, 1)[None], 3, 1, 1)
    cover = (1 - soft_step(away - (1 - EDGE / 2), EDGE)) * (1 - kept) * torch.maximum(lashes, crease)
    kernel = torch.hann_window(7, periodic=False)[1:-1]
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(4, 1, 5, 5)
    return F.conv2d(F.pad(torch.cat([whole, cover])[None], (2,) * 4, mode="replicate"), kernel, groups=4)


def _joined(seeds: Tensor, through: Tensor) -> Tensor:
    """(1, R, C) 1 at `seeds` (R, C) bool, at what leads to them `through` (R, C) bool, and around these."""
    found = seeds
    while True:
        grown = seeds | (through & (F.max_pool2d(found[None].float(), 3, 1, 1)[0] > 0))
        if torch.equal(grown, found):
            return F.max_pool2d(found[None].float(), 3, 1, 1)
        found = grown


def _lid_colours(eye: Aperture, colours_at: Sampler) -> Tensor:
    """(3, PLACES) colours 0..255 of the skin above and below an eye, from its one end to the other."""
    u = torch.linspace(-0.5, 0.5, PLACES) * eye.width
    top, bottom = eye.edge_heights(u)
    above, below = (torch.linspace(*reach, HEIGHTS)[:, None] * eye.width for reach in (ABOVE, BELOW))
    colours = _seen(eye, colours_at, u, torch.cat([top - above, bottom + below]))
    order = colours.mean(-1).argsort(0)[int(BRIGHT * (2 * HEIGHTS - 1))]
    return _smooth(colours.gather(0, order[None, :, None].expand(1, -1, 3))[0].T)


def _lash_line(eye: Aperture, colours_at: Sampler) -> float:
    """How far above an upper lid's landmarks its lash line is darkest, of the eye's width."""
    u = torch.linspace(-0.3, 0.3, PLACES) * eye.width
    rises = torch.linspace(0, HIGHEST_LASH * min(1.0, eye.gap / (USUAL * eye.width)), HEIGHTS)
    v = eye.edge_heights(u)[0] - rises[:, None] * eye.width
    return float(rises[_seen(eye, colours_at, u, v).mean((1, 2)).argmin()])


def _lash_colours(eye: Aperture, colours_at: Sampler, lid_map: Tensor) -> Tensor:
    """(4, PLACES) the darkest colours 0..255 of an eye's lashes, and how thick these are as one dark line."""
    u = torch.linspace(-0.5, 0.5, PLACES) * eye.width
    v = eye.edge_heights(u)[0] - torch.linspace(LASHES_FROM, LASHES_TO, LASH_STEPS)[:, None] * eye.width
    colours = _seen(eye, colours_at, u, v)
    at = _on_map(u.expand_as(v), v, eye.width)[None]
    skin = F.grid_sample(lid_map[:, :3], at, padding_mode="border", align_corners=True)[0].mean(0)
    lacks = (1 - colours.mean(-1) / skin.clamp(min=1)).clamp(min=0)
    step = (LASHES_TO - LASHES_FROM) / (LASH_STEPS - 1)
    thickness = (step * lacks.sum(0) / lacks.amax(0).clamp(min=0.05)).clamp(*THICKNESS)
    thickness *= (1 - (u / (THIN_AT * eye.width)).square()).sqrt()  # at the ends lashes lie one above the other
    darkest = colours.mean(-1).argmin(0)[None, :, None].expand(1, -1, 3)
    return _smooth(torch.cat([colours.gather(0, darkest)[0].T, thickness[None]]))


def _along(planes: Tensor, places: Tensor) -> Tensor:
    """(C, N) of planes (C, PLACES) along an eye, at places (N,) −0.5..0.5 on it; beyond them, those of its ends."""
    place = ((places + 0.5) * (PLACES - 1)).clamp(0, PLACES - 1.001)
    index = place.long()
    return torch.lerp(planes[:, index], planes[:, index + 1], place - index)


def _smooth(planes: Tensor) -> Tensor:
    """Planes (C, PLACES), smoothed along an eye."""
    smooth = F.pad(planes[None], (4, 4), mode="replicate")
    kernel = torch.hann_window(9, periodic=False) + 1e-3
    return F.conv1d(smooth, (kernel / kernel.sum()).expand(len(planes), 1, 9), groups=len(planes))[0]
