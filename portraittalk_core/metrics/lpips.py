"""LPIPS: perceptual distance of two pictures, by AlexNet's features and learnt weights of its channels.

This is our own code because lpips and torchmetrics fetch AlexNet through torchvision, which cannot stand beside our
torch.
Shapes: B pictures.
Source: Zhang et al. 2018, "The unreasonable effectiveness of deep features", equation 1; version 0.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import check_finite, check_shape
from ..errors import InputError
from .meter import FrameMean, MetricContext
from .networks.alexnet import MIN_SIDE, WIDTHS, AlexNetFeatures

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, for −1..1
TINY = 1e-10


class Lpips(nn.Module):
    """The network and its heads; open it with `weights`' files by `networks.load.load_lpips`.

    Args:
        features: AlexNet with its weights.
        heads: five of (C,), how much each channel of a layer counts, 0 or more.
    """

    def __init__(self, features: AlexNetFeatures, heads: list[Tensor]) -> None:
        super().__init__()
        shapes = [tuple(head.shape) for head in heads]
        if shapes != [(width,) for width in WIDTHS]:
            raise InputError(f"LPIPS needs heads of {', '.join(map(str, WIDTHS))} channels, not {shapes}.")
        self.features = features
        self.heads = nn.ParameterList(nn.Parameter(head.float(), requires_grad=False) for head in heads)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, generated: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair of pictures.

        Args:
            generated: (B, 3, H, W) RGB −1..1, both sides at least 63.
            target: the same shape.

        Returns:
            (B,) ≥ 0; 0 for identical pictures; symmetric.

        Raises:
            InputError: shapes that do not fit, too small, or values that are not numbers.
        """
        if generated.shape != target.shape:
            raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
        for name, pictures in (("generated pictures", generated), ("target pictures", target)):
            check_finite(check_shape(pictures, "B 3 H W", name), name)
        if min(generated.shape[2:]) < MIN_SIDE:
            raise InputError(f"pictures of {tuple(generated.shape)} are too small for LPIPS: {MIN_SIDE} pixels a side.")
        both = zip(self._layers(generated), self._layers(target), self.heads, strict=True)
        return sum(((a - b).square() * head[:, None, None]).sum(1).mean((1, 2)) for a, b, head in both)

    def _layers(self, pictures: Tensor) -> list[Tensor]:
        layers = self.features((pictures.float() - self.shift) / self.scale)
        return [layer / (layer.square().sum(1, keepdim=True).sqrt() + TINY) for layer in layers]


def lpips(generated: Tensor, target: Tensor, network: Lpips) -> float:
    """LPIPS of one pair of frames as they are streamed.

    Args:
        generated: (H, W, 3) uint8.
        target: the same shape.
        network: with its weights.

    Returns:
        ≥ 0, 0 for identical frames.

    Raises:
        InputError: frames of different or too small size.
    """
    if generated.shape != target.shape:
        raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
    for picture in (generated, target):
        check_shape(picture, "H W 3", "the picture for LPIPS")
    device = network.shift.device
    a, b = (p.to(device).permute(2, 0, 1)[None].float() / 127.5 - 1 for p in (generated, target))
    return float(network(a, b))


def lpips_mean(context: MetricContext) -> FrameMean:
    """For the registry: the mean of LPIPS over frames."""
    return FrameMean(lambda generated, target: lpips(generated, target, context.network))
