"""The shade of a lid's lashes, where it closes."""

from __future__ import annotations

import torch
from torch import Tensor

from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture, Box, pixel_box, pixel_centres
from .painters import FramePose, within

LEAST_SHUT = 0.25  # of a lid: less shows no lashes
DARKEST = 0.45  # of the colours, taken away on the lash line of a closed eye


class LidPainter:
    """Darkens the lash line of lids that close.

    Args:
        rest: the right and the left eye of the portrait.
        box: the region that is painted.
    """

    def __init__(self, rest: tuple[Aperture, Aperture], box: Box) -> None:
        self.rest, self.box = rest, box

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`."""
        for chains, eye, rest in zip((RIGHT_EYE, LEFT_EYE), pose.eyes, self.rest, strict=True):
            shut = 1 - eye.gap / max(rest.gap, 1.0)
            if shut >= LEAST_SHUT:
                self._shade(region, pose.points[[*chains[0], *chains[1]]], eye, shut)

    def _shade(self, region: Tensor, edge: Tensor, eye: Aperture, shut: float) -> None:
        box = pixel_box(edge, 0.15 * eye.width, self.box)
        if box is None:
            return
        u, v = eye.axes_of(pixel_centres(box))
        top, _ = eye.edge_heights(u)
        inner = 1 - ((u.abs() / (0.5 * eye.width) - 0.85) / 0.2).clamp(0, 1)
        line = torch.exp(-(((v - top) / max(0.035 * eye.width, 0.7)) ** 2)) * inner
        rows, columns = within(box, self.box)
        region[:, rows, columns] *= 1 - DARKEST * min(1.0, (shut - LEAST_SHUT) / 0.5) * line
