"""A row of upper teeth that the landmarks of a wide smile take for a part of the lip above it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import Aperture
from .sampler import Sampler

# lengths are of the mouth's width
HIGHEST, STEPS = 0.1, 21  # how far above the inner lip teeth are looked for
BEGIN = 0.03  # and where they begin at the latest
LIGHTER, PALER = 1.25, 0.8  # than the lip, at least; the saturation over the lip's, at most
OF_LIP = (0.2, 0.35, 0.5)  # of the way from the lip's outer edge to its inner one: where it is surely lip
ENOUGH = 3  # of the 9 columns: fewer are gleams


def teeth_on_lip(sample: Sampler, points_px: Tensor, mouth: Aperture) -> Tensor:
    """(9,) pixels by which teeth reach above the landmarks of the inner upper lip, from one corner to the other.

    Args:
        sample: the frame's colours.
        points_px: (478, 2) landmarks.
        mouth: of them.
    """
    outer, inner = (points_px[list(topo.UPPER_LIP_RINGS[ring][1:-1])] for ring in (0, 3))
    up = -mouth.across
    steps = torch.linspace(0, HIGHEST, STEPS) * mouth.width
    light, saturation = _light_of(sample(inner[:, None] + steps[:, None] * up))  # (9, STEPS)
    share = torch.tensor(OF_LIP)[:, None]
    lip = sample(outer[:, None] - share * ((outer - inner) @ up)[:, None, None] * up)  # (9, 3, 3)
    lip_light, lip_saturation = _light_of(lip.flatten(0, 1).median(0).values)
    is_tooth = (light > LIGHTER * lip_light) & (saturation < PALER * lip_saturation)
    begin = is_tooth.int().argmax(1)
    is_row = is_tooth.any(1) & (steps[begin] <= BEGIN * mouth.width)
    ends = (~is_tooth & (torch.arange(STEPS) >= begin[:, None])).int()
    end = torch.where(ends.any(1), ends.argmax(1), STEPS - 1)
    is_row &= ends.any(1)  # what is light up to the skin is no row of teeth
    if int(is_row.sum()) < ENOUGH:
        return torch.zeros(len(is_row))
    # between two teeth that are seen there are others
    columns = np.arange(len(is_row))
    known = columns[is_row.numpy()]
    reach = torch.from_numpy(np.interp(columns, known, steps[end][is_row].numpy(), left=0.0, right=0.0)).float()
    padded = torch.cat([reach[:1], reach, reach[-1:]])
    return padded.unfold(0, 3, 1).median(1).values


def _light_of(colours: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness 0..255 and saturation 0..1 of (…, 3) colours."""
    most = colours.amax(-1)
    return colours.mean(-1), (most - colours.amin(-1)) / most.clamp(min=1)
