"""Feature-matching loss on a discriminator's activations of generated and of real pictures.

Source: Wang et al. 2018, "High-resolution image synthesis and semantic manipulation with conditional GANs"
(pix2pixHD), equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError


def feature_matching_loss(generated: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of each layer's activations, summed over layers, averaged over scales.

    Args:
        generated: activations of generated pictures, of each scale, of each layer (B, C, H, W), without the logits.
        real: those of real pictures, of the same shapes; no gradient flows to them.

    Returns:
        A scalar, float32.

    Raises:
        InputError: another number of scales or layers, or other shapes.
    """
    sizes = [[[tuple(layer.shape) for layer in scale] for scale in side] for side in (generated, real)]
    if sizes[0] != sizes[1] or not all(sizes[0]) or not sizes[0]:
        raise InputError(f"activations of shapes {sizes[0]} and {sizes[1]} cannot be compared layer by layer.")
    scales = [
        sum((a.float() - b.detach().float()).abs().mean() for a, b in zip(*pair, strict=True))
        for pair in zip(generated, real, strict=True)
    ]
    return torch.stack(scales).mean()
