"""The inside of a portrait's mouth, where its lips part, and the line where lips that were apart meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, Array, Box, pixel_axes, pixel_box, soft_steps
from .mouth_interior import MouthPalette, paint_mouth
from .open_mouth import OpenMouth
from .painters import FramePose, within
from .turned_away import turned_away

CORNER = 0.46  # of the mouth's width, from its middle: where its corners begin
HIDDEN_FROM = 0.44  # of the mouth's width, from its middle: where a hidden corner's lips are as far apart as they get
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
        was_open: whether the portrait's lips are apart, so that they have no line of their own where they meet.
    """

    def __init__(
        self,
        points: Tensor,
        palette: MouthPalette,
        inside: OpenMouth | None,
        colours_at: Callable[[Tensor], Tensor],
        flat: bool,
        box: Box,
        was_open: bool,
    ) -> None:
        self.rest, self.chin = Aperture.of(points, MOUTH), points[topo.CHIN]
        self.palette, self.inside, self.colours_at = palette, inside, colours_at
        self.was_open, self.flat, self.box, self.seam = was_open, flat, box, 255 * palette.seam.numpy()[:, None]
        self.closed_line = _closed_line(self.rest)
        along = self.rest.along.numpy()
        self.to_axes = np.array([[along[0], -along[1]], [along[1], along[0]]])  # of (x, y), to along and across
        middle = float(self.rest.axes_of(points[topo.INNER_LIP_TOP])[0]) / self.rest.width
        self.is_turned = abs(middle) > TURNED
        hidden = turned_away(points)
        self.hidden_side = sum(side for side, end in ((-1, 0), (1, -1)) if MOUTH[0][end] in hidden)

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`."""
        mouth = pose.mouth
        feather = max(1.2, 0.02 * mouth.width)
        is_parted = mouth.gap >= 0.25 * feather
        if not is_parted and not self.was_open:
            return
        around = 0.06 * mouth.width if self.was_open else 0.5 * feather + 0.01 * mouth.width + 1
        box = pixel_box(pose.points[[*MOUTH[0], *MOUTH[1]]], around, self.box)
        if box is None:
            return
        planes = region.numpy()[(slice(None), *within(box, self.box))]
        u, v = (axis.numpy() for axis in mouth.axes_on(*pixel_axes(box)))
        top, bottom = mouth.edges_at(self._before_hidden_corner(u, mouth.width))
        if self.was_open:
            self._shade_meeting(planes, u, v - (top + bottom) / 2, bottom - top, mouth, feather)
        if not is_parted:
            return
        end, softness = self._corners()
        half, reach = 0.5 * feather, (end + 0.5 * softness) * mouth.width
        # often less than half of the box
        inside = np.flatnonzero((v > top - half) & (v < bottom + half) & (bottom > top) & (np.abs(u) < reach))
        if not len(inside):
            return
        u, v, top, bottom = (values.ravel()[inside] for values in (u, v, top, bottom))
        cover = soft_steps(v - top, feather) * soft_steps(bottom - v, feather)
        cover *= _open_share(bottom - top, feather)
        cover *= 1 - soft_steps(np.abs(u) - end * mouth.width, softness * mouth.width)
        rows, columns = np.divmod(inside, planes.shape[2])
        painted = self._colours(np.stack([columns + (box[0] + 0.5), rows + (box[1] + 0.5)], 1), v, top, bottom, pose)
        if not self.flat:
            # the lips' own dark red in the corners, where the layers tear
            corner = soft_steps(np.abs(u) - CORNER * mouth.width, 0.12 * mouth.width)
            painted += (self.seam - painted) * corner
        before = planes[:, rows, columns]
        planes[:, rows, columns] = before + (painted - before) * cover

    def _shade_meeting(
        self, planes: Array, u: Array, off: Array, parted: Array, mouth: Aperture, feather: float
    ) -> None:
        """Draw the shadow where lips that were apart meet, in place: they have no line of their own.

        Args:
            planes: (3, h, w) the frame.
            u: (h, w) along the mouth.
            off: (h, w) away from the meeting line.
            parted: (h, w) between the lips.
            mouth: the mouth.
            feather: how soft its edges are, pixels.
        """
        closeness = np.exp(-np.square(off * np.float32(1 / max(0.8, 0.014 * mouth.width))))
        meeting = closeness * (1 - _open_share(parted, feather)) * (np.abs(u) < 0.49 * mouth.width)
        planes += (self.seam[:, None] - planes) * (0.85 * meeting)

    def _colours(self, pixels: Array, v: Array, top: Array, bottom: Array, pose: FramePose) -> Array:
        """(3, N) colours 0..255 inside the mouth.

        Args:
            pixels: (N, 2) positions.
            v: (N,) the same across the mouth.
            top: (N,) `v` of the upper lip's edge.
            bottom: (N,) `v` of the lower lip's edge.
            pose: the face in this frame.
        """
        unit, head = self.rest.width, pose.head
        # where each pixel would lie on the unmoved head: teeth stay with the skull
        turn, shift = head[:2].numpy(), head[2].numpy()
        unmoved = np.array([[turn[1, 1], -turn[0, 1]], [-turn[1, 0], turn[0, 0]]])
        unmoved /= np.float32(turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0])
        matrix, offset = unmoved @ self.to_axes, (shift @ unmoved + self.rest.origin.numpy()) @ self.to_axes
        x, y = pixels.astype(np.float32).T
        home_u, home_v = (x * matrix[0, axis] + y * matrix[1, axis] - offset[axis] for axis in (0, 1))
        meets = self.closed_line[0] + home_u * (self.closed_line[1] + home_u * self.closed_line[2])
        scale = np.float32(1 / unit)
        down = (home_v - meets) * scale
        chin = (pose.points[topo.CHIN].numpy() - shift) @ unmoved - self.chin.numpy()
        jaw = max(0.0, float(chin @ self.to_axes[:, 1])) / unit
        places = (home_u * scale, down, down - (v - top) * scale, down + (bottom - v) * scale)
        if self.inside is None:
            return self._painted(places, jaw)
        return self.inside.colours(
            self.colours_at,
            home_u,
            home_v,
            home_v + bottom - v,
            lambda at: self._painted([values[at] for values in places], jaw),
        )

    def _painted(self, places: Sequence[Array], jaw: float) -> Array:
        """(3, N) colours 0..255, painted at places across, down, and with their upper and lower edge."""
        return (
            paint_mouth(
                *map(torch.from_numpy, places),
                jaw=jaw,
                palette=self.palette,
                teeth=self.inside is None,
                flat=self.flat,
                unit_px=self.rest.width,
            )
            .T.mul_(255)
            .numpy()
        )

    def _before_hidden_corner(self, u: Array, width: float) -> Array:
        """Positions along the mouth at which its edges count: the lips never meet before a hidden corner.

        There the layers part without an end, and what tears is inside the mouth.
        """
        if not self.hidden_side:
            return u
        return self.hidden_side * np.minimum(self.hidden_side * u, np.float32(HIDDEN_FROM * width))

    def _corners(self) -> tuple[float, float]:
        """Where the mouth ends, from its middle, and how softly; at a hidden corner it goes on."""
        if self.hidden_side:
            return 0.54, 0.08
        return (0.48, 0.08) if self.is_turned else (0.46, 0.08) if self.flat else (0.49, 0.04)


def _open_share(parted: Array, feather: float) -> Array:
    """0..1 how open a mouth is where its lips are `parted` pixels apart."""
    share = np.maximum(parted * np.float32(1 / (1.5 * feather)), 0)
    return np.minimum(share, 1, out=share)


def _closed_line(rest: Aperture) -> list[float]:
    """c0, c1, c2 of v = c0 + c1·u + c2·u² where the lips at rest meet when closed, pixels."""
    u = rest.upper[0]
    top, bottom = rest.edge_heights(u)
    meets = top + 0.45 * (bottom - top).clamp(min=0)
    basis = torch.stack([torch.ones_like(u), u, u * u], 1)
    return torch.linalg.lstsq(basis.double(), meets.double()[:, None]).solution[:, 0].tolist()
