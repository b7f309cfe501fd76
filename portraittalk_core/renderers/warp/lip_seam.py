"""The seam between a warp's two layers at the mouth: the upper lip's above it, the lower lip's below."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...face.aperture import Aperture, soft_steps

SHARP, WIDENS = 0.46, 1.2  # of the mouth's width, from its middle: where the layers part sharply; beyond


def lower_lip_share(u: Tensor, v: Tensor, mouth: Aperture) -> Tensor:
    """(…,) weight 0..1 of the lower layer at the mouth's axes (u, v), each (…,): below the lips' meeting line."""
    along = u.numpy()
    top, bottom = mouth.edges_at(along)
    # between the corners the layers part sharply; beyond them they agree but for what the field's nodes are too far
    # apart for: from a little before the corners the seam widens to hide it
    beyond = np.maximum(np.abs(along) - np.float32(SHARP * mouth.width), 0)
    width = 1 + np.float32(WIDENS) * beyond
    return torch.from_numpy(soft_steps((v.numpy() - (top + bottom) / 2) / width, 1.0))
