"""Upper lids that close: skin over the eye, and the portrait's own lash line that moves down with the lid's edge.

The field does not move an upper lid downward: it would stretch the lashes over the whole lid, and bend what lies above
it, such as the rim of glasses. Shapes: B frames; h, w a box around an eye; u, v as in `Aperture`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture, Box, pixel_box, pixel_centres, soft_step
from .painters import FramePose, within

EYES = (RIGHT_EYE, LEFT_EYE)
LEAST_SHUT, WHOLE_SHUT = 0.02, 0.12  # of a lid's way: where painting begins, and where it hides all beneath
# of an eye's width
LASHES, MARGIN = 0.10, 0.012  # of the strip that moves with the lid's edge, above it and below it
OVERLAP = 0.06  # how far a shut lid reaches over the lower one's edge
FADE = 0.14  # over which the lid's skin begins above the lashes
HANG = 0.10  # how far the lashes of a shut eye hang down
SHADE_REACH = 0.07  # of the lid's shadow on the eye
ABOVE, BELOW = (0.10, 0.26), (0.12, 0.30)  # from its edges: where a lid's colour is looked for
PLACES, HEIGHTS = 24, 6  # at which it is, on either side
BRIGHT = 0.55  # quantile of these: lashes, brows, paint and glasses are darker
FLATTENED = 0.5  # height of a shut eye's lashes above the lid's edge, of an open one's


class LidPainter:
    """Closes the upper lids of one portrait.

    Args:
        points: (478, 2) its landmarks, pixels.
        skin: numbers of the landmarks between its upper lids and brows.
        colours_at: (…, 3) colours 0..255 of the portrait at (…, 2) positions.
        box: the region that is painted.
    """

    def __init__(self, points: Tensor, skin: Sequence[int], colours_at: Callable[[Tensor], Tensor], box: Box) -> None:
        self.source, self.box = torch.cat([points, torch.ones(len(points), 1)], 1), box
        rest = [Aperture.of(points, chains) for chains in EYES]
        self.colours = [_lid_colours(eye, colours_at) for eye in rest]
        edges = {point for upper, _ in EYES for point in upper}
        above = points[sorted(set(skin) - edges)]
        nearest = torch.stack([(above - eye.origin).norm(dim=1) for eye in rest]).argmin(0)
        numbers = torch.tensor(sorted(set(skin) - edges), dtype=torch.long)
        self.skin = [numbers[nearest == side] for side in (0, 1)]

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
            shut[:, side] = share * closes
            held[:, lid] = torch.where(closes[:, None, None], resting, held[:, lid])
            moved = ((targets[:, self.skin[side]] - self.source[self.skin[side]] @ heads) @ down).clamp(min=0)
            held[:, self.skin[side]] -= torch.minimum(moved, (shut[:, side] * length)[:, None, None]) * down.mT
        return held, shut

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`."""
        for chains, eye, shut, colours in zip(EYES, pose.eyes, pose.shut, self.colours, strict=True):
            if shut > 0:
                self._close(region, pose.points[[*chains[0], *chains[1]]], eye, shut, colours)

    def _close(self, region: Tensor, edge: Tensor, eye: Aperture, shut: float, colours: Tensor) -> None:
        """Paint one lid that has closed by `shut`, in place; `edge` are the landmarks (N, 2) of the open eye."""
        box = pixel_box(edge, 0.3 * eye.width, self.box)
        if box is None:
            return
        rows, columns = within(box, self.box)
        patch = region[:, rows, columns]
        u, v = eye.axes_of(pixel_centres(box))
        width = eye.width
        top, bottom = eye.edge_heights(u)
        lid = top + shut * (bottom - top + OVERLAP * width)
        above = lid - v  # of the lid's edge, pixels
        ends = 1 - soft_step(u.abs() - 0.5 * width, 0.12 * width)
        amount = ends * min(1.0, shut / WHOLE_SHUT)
        skin = _along(colours, u / width)
        shade = 0.95 + 0.07 * torch.sin(torch.pi * ((v - top) / (lid - top).clamp(min=1)).clamp(0, 1))
        from_lashes = v - top + (LASHES + FADE / 2) * width
        cover = soft_step(above, 1.3) * soft_step(from_lashes, FADE * width) * amount
        eyeball = 1 - 0.3 * torch.exp(above.clamp(max=0) / (SHADE_REACH * width)) * ends * ((above < 0) & (bottom > v))
        out = torch.lerp(patch * eyeball, skin * shade, cover)
        # the lash line and the lashes, from the place where they rest
        late = float(soft_step(torch.tensor(shut - 0.65), 0.5))
        height = LASHES * (1 + (FLATTENED - 1) * late)
        strip = _shifted(patch, eye, torch.where(above > 0, (v - lid) * (LASHES / height), v - lid) + top - v)
        within_strip = soft_step(above + MARGIN * width, 1.3) * (
            1 - soft_step(above - 0.7 * height * width, 0.6 * height * width)
        )
        out = torch.lerp(out, strip, within_strip * amount)
        if late > 0:
            hanging = _shifted(patch, eye, top - (lid - v).abs() * (LASHES / HANG) - v).mean(0)
            darker = (hanging / skin.mean(0).clamp(min=1)).clamp(0, 1)
            fade = soft_step(-above - MARGIN * width, 0.02 * width) * (
                1 - soft_step(-above - 0.6 * HANG * width, 0.8 * HANG * width)
            )
            out = out * torch.lerp(torch.ones(()), darker, fade * late * ends)
        region[:, rows, columns] = out.clamp_(0, 255)


def _lid_colours(eye: Aperture, colours_at: Callable[[Tensor], Tensor]) -> Tensor:
    """(3, PLACES) colours 0..255 of the skin above an eye, from its one end to the other."""
    u = torch.linspace(-0.5, 0.5, PLACES) * eye.width
    top, bottom = eye.edge_heights(u)
    above, below = (torch.linspace(*reach, HEIGHTS)[:, None] * eye.width for reach in (ABOVE, BELOW))
    v = torch.cat([top - above, bottom + below])  # (2 · HEIGHTS, PLACES)
    across = torch.stack([-eye.along[1], eye.along[0]])
    colours = colours_at(eye.origin + u[:, None] * eye.along + v[..., None] * across)
    order = colours.mean(-1).argsort(0)[int(BRIGHT * (2 * HEIGHTS - 1))]
    chosen = colours.gather(0, order[None, :, None].expand(1, -1, 3))[0].T[None]  # (1, 3, PLACES)
    smooth = F.pad(chosen, (4, 4), mode="replicate")
    kernel = torch.hann_window(9, periodic=False) + 1e-3
    return F.conv1d(smooth, (kernel / kernel.sum()).expand(3, 1, 9), groups=3)[0]


def _along(colours: Tensor, across: Tensor) -> Tensor:
    """(3, h, w) colours (3, PLACES) at (h, w) places −0.5..0.5 along the eye."""
    place = ((across + 0.5) * (PLACES - 1)).clamp(0, PLACES - 1)
    left = place.long().clamp(max=PLACES - 2)
    return torch.lerp(colours[:, left], colours[:, left + 1], place - left)


def _shifted(patch: Tensor, eye: Aperture, by: Tensor) -> Tensor:
    """(3, h, w) colours of a patch, each pixel from `by` (h, w) pixels further along v."""
    height, width = by.shape
    xs, ys = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    x, y = xs - by * eye.along[1], ys[:, None] + by * eye.along[0]
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1)
    return F.grid_sample(patch[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
