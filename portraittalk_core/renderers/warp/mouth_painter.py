"""The inside of a portrait's mouth, where its lips part, and the line where lips that were apart meet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, Box, pixel_box, pixel_centres, soft_step
from .mouth_interior import MouthPalette, paint_mouth
from .open_mouth import OpenMouth
from .painters import FramePose, within

CORNER = 0.46  # of the mouth's width, from its middle: where its corners begin
TURNED = 0.15  # of the mouth's width, from which its middle lies so far aside only where the face is turned away


class MouthPainter:
    """Paints the mouth of one portrait.

    Args:
        points: (478, 2) landmarks of the portrait, pixels.
        palette: colours of its mouth.
        inside: what the portrait shows between its lips; None if they are closed, or nearly.
        colours_at: (…, 3) colours 0..255 of the portrait at (…, 2) positions.
        flat: whether the face is drawn in flat colours.
        box: the region that is painted.
    """

    def __init__(
        self,
        points: Tensor,
        palette: MouthPalette,
        inside: OpenMouth | None,
        colours_at: Callable[[Tensor], Tensor],
        flat: bool,
        box: Box,
    ) -> None:
        self.rest, self.chin = Aperture.of(points, MOUTH), points[topo.CHIN]
        self.palette, self.inside, self.colours_at = palette, inside, colours_at
        self.flat, self.box = flat, box
        self.closed_line = _closed_line(self.rest)
        middle = self.rest.axes_of(points[topo.INNER_LIP_TOP])[0]
        self.is_turned = abs(float(middle)) > TURNED * self.rest.width

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`."""
        mouth = pose.mouth
        box = pixel_box(pose.points[[*MOUTH[0], *MOUTH[1]]], 0.06 * mouth.width, self.box)
        if box is None:
            return
        pixels = pixel_centres(box)
        u, v = mouth.axes_of(pixels)
        top, bottom = mouth.edge_heights(u)
        feather = max(1.2, 0.02 * mouth.width)
        open_share = ((bottom - top) / (1.5 * feather)).clamp(0, 1)
        cover = soft_step(v - top, feather) * soft_step(bottom - v, feather) * open_share
        cover = cover * self._between_corners(u, mouth)
        rows, columns = within(box, self.box)
        patch = region[:, rows, columns]
        if self.inside is not None:
            # lips that were apart have no line of their own where they meet: the shadow between them hides what is left
            closeness = torch.exp(-(((v - (top + bottom) / 2) / max(0.8, 0.014 * mouth.width)) ** 2))
            meeting = closeness * (1 - open_share) * (u.abs() < 0.49 * mouth.width)
            patch = torch.lerp(patch, self.palette.seam[:, None, None] * 255, 0.85 * meeting)
            region[:, rows, columns] = patch
        inside = cover.flatten().nonzero().flatten()  # often less than half of the box
        if mouth.gap < 0.25 * feather or not len(inside):
            return
        pixels = pixels.view(-1, 2).index_select(0, inside)[None]  # (1, N, 2)
        u, v, top, bottom, cover = (x.flatten().index_select(0, inside)[None] for x in (u, v, top, bottom, cover))
        painted = self._colours(pixels, v, top, bottom, pose)
        # the lips' own dark red in the corners, where the layers tear
        corner = soft_step(u.abs() - CORNER * mouth.width, 0.12 * mouth.width) * (not self.flat)
        painted = torch.lerp(painted, self.palette.seam[:, None, None] * 255, corner)
        patch = patch.flatten(1)
        patch.index_copy_(1, inside, torch.lerp(patch.index_select(1, inside), painted[:, 0], cover))
        region[:, rows, columns] = patch.view(3, rows.stop - rows.start, -1)

    def _colours(self, pixels: Tensor, v: Tensor, top: Tensor, bottom: Tensor, pose: FramePose) -> Tensor:
        """(3, 1, N) colours 0..255 inside the mouth.

        Args:
            pixels: (1, N, 2) positions.
            v: (1, N) the same across the mouth.
            top: (1, N) `v` of the upper lip's edge.
            bottom: (1, N) `v` of the lower lip's edge.
            pose: the face in this frame.
        """
        unit, head = self.rest.width, pose.head
        # where each pixel would lie on the unmoved head: teeth stay with the skull
        unmoved = torch.linalg.inv(head[:2])
        home_u, home_v = self.rest.axes_of((pixels - head[2]) @ unmoved)
        meets = self.closed_line[0] + home_u * self.closed_line[1] + home_u**2 * self.closed_line[2]
        down = (home_v - meets) / unit
        chin = (pose.points[topo.CHIN] - head[2]) @ unmoved - self.chin
        jaw = float(self.rest.axes_of(chin + self.rest.origin)[1].clamp(min=0)) / unit
        upper, lower = down - (v - top) / unit, down + (bottom - v) / unit
        flat = [x.flatten() for x in (home_u / unit, down, upper, lower)]
        is_own = self.inside is not None
        painted = paint_mouth(*flat, jaw=jaw, palette=self.palette, teeth=not is_own, flat=self.flat, unit_px=unit)
        painted = painted.T.reshape(3, *v.shape) * 255
        if not is_own:
            return painted
        return self.inside.colours(self.colours_at, home_u, home_v, home_v + bottom - v, painted)

    def _between_corners(self, u: Tensor, mouth: Aperture) -> Tensor:
        """0..1 along the mouth, with soft ends; softer on a turned face, whose lips meet at no hidden corner."""
        end, softness = (0.42, 0.16) if self.is_turned else (0.46, 0.08) if self.flat else (0.49, 0.04)
        return 1 - soft_step(u.abs() - end * mouth.width, softness * mouth.width)


def _closed_line(rest: Aperture) -> Tensor:
    """(3,) v = c0 + c1·u + c2·u² where the lips at rest meet when closed, pixels."""
    u = rest.upper[0]
    top, bottom = rest.edge_heights(u)
    meets = top + 0.45 * (bottom - top).clamp(min=0)
    basis = torch.stack([torch.ones_like(u), u, u * u], 1)
    return torch.linalg.lstsq(basis.double(), meets.double()[:, None]).solution[:, 0].float()
