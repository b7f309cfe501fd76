"""The inside of a film's mouth as one of its own frames shows it, in all others.

Teeth are anybody's only as long as they are painted. Upper teeth stay with the skull, what is seen below them rides on
the jaw, as in a portrait whose mouth is open (`open_mouth`); the light is that of the frame they are shown in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, pixel_box
from .filmed_lips import parted_lips
from .mouth_interior import light_inside
from .open_mouth import OpenMouth, look_into
from .sampler import Sampler, picture_sampler

ROOM = 0.3  # of the mouth's width: what is kept of the frame around the lips
HELD = (*topo.RIGID, *topo.MOUTH_CORNERS, 0, 17)  # landmarks of the face at rest, by which one frame lies on another
LEAST_SKIN = 0.02  # of a colour 0..1


@dataclass(frozen=True)
class OwnInside:
    """What one frame shows between the lips."""

    mouth: OpenMouth
    sample: Sampler  # of the frame
    placed: Tensor  # (478, 2) landmarks of the face at rest on the frame's head, pixels
    skin: Tensor  # (3,) colour 0..1 of its skin in the light

    @staticmethod
    def of(picture: Tensor, filmed: Tensor, placed: Tensor, skin: Tensor) -> OwnInside | None:
        """Look into a frame's mouth.

        Args:
            picture: (H, W, 3) uint8.
            filmed: (478, 2) its landmarks, pixels.
            placed: see above.
            skin: see above.

        Returns:
            None where the mouth lies outside of the picture.
        """
        height, width = picture.shape[:2]
        corners = filmed[list(topo.MOUTH_CORNERS)]
        room = ROOM * float((corners[0] - corners[1]).norm())
        box = pixel_box(filmed[list(topo.LIPS)], room, (0, 0, width, height))
        if box is None:
            return None
        sample = picture_sampler(picture, box)
        return OwnInside(look_into(sample, parted_lips(picture, filmed)), sample, placed, skin)

    def colours(  # noqa: PLR0913 - one parameter a property
        self,
        pixels: Tensor,
        above: Tensor,
        gap: Tensor,
        placed: Tensor,
        skin: Tensor,
        paint: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """(3, N) colours 0..255 inside another frame's mouth.

        Args:
            pixels: (N, 2) positions there.
            above: (N,) how far above the lower lip's edge they lie, pixels.
            gap: (N,) between the lips above and below them, pixels.
            placed: (478, 2) landmarks of the face at rest on that frame's head, pixels.
            skin: (3,) colour 0..1 of its skin.
            paint: (3, n) colours 0..255 of what is seen where this frame shows nothing, at n of the places.
        """
        held = list(HELD)
        there = torch.cat([placed[held], torch.ones(len(held), 1)], 1).double()
        affine = torch.linalg.lstsq(there, self.placed[held].double()).solution.float()  # (3, 2)
        scale = affine[:2].det().abs().sqrt()
        u, v = self.mouth.aperture.axes_of(pixels @ affine[:2] + affine[2])
        gain = skin.clamp(min=LEAST_SKIN) / self.skin.clamp(min=LEAST_SKIN)
        top, bottom = self.mouth.aperture.edge_heights(u)
        unit = Aperture.of(self.placed, MOUTH).width
        light, light_here = (
            light_inside((open_by / unit).clamp(min=0).numpy()) for open_by in (gap * scale, bottom - top)
        )
        light = np.minimum(light / light_here, 1)
        inside = self.mouth.colours(
            lambda at: (self.sample(at) * gain).clamp(max=255),
            u.numpy(), v.numpy(), (v + above * scale).numpy(),
            lambda at: paint(torch.from_numpy(at)).numpy() / light[at],
        )  # fmt: skip
        return torch.from_numpy(inside * light)
