"""Filling of what is not known of a picture from what is around it.

Source: Gortler et al., "The Lumigraph", 1996, section 3.4.3 (pull-push).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def filled(colours: Tensor, known: Tensor) -> Tensor:
    """Colours with smooth ones where they are not known; known ones are unchanged.

    Args:
        colours: (C, H, W).
        known: (H, W) weights 0..1; between them, colours are mixed with those around.

    Returns:
        (C, H, W); zeros where nothing is known at all.
    """
    return _pulled(torch.cat([colours * known, known[None]])[None])[0][:-1]


def _pulled(weighted: Tensor) -> Tensor:
    """(1, C + 1, H, W) colours times weights, and the weights: colours everywhere, in the same layout."""
    height, width = weighted.shape[-2:]
    weight = weighted[:, -1:]
    own = weighted / weight.clamp(min=1e-6)
    if max(height, width) <= 1 or bool((weight >= 1).all()):
        return own
    smaller = F.avg_pool2d(F.pad(weighted, (0, width % 2, 0, height % 2), mode="replicate"), 2)
    # a pixel of which a quarter is known is known: its colours are those of that quarter
    scale = (4 * smaller[:, -1:]).clamp(max=1) / smaller[:, -1:].clamp(min=1e-6)
    coarse = _pulled(smaller * scale)
    pushed = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(pushed, own, weight)
