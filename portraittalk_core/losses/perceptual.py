"""Perceptual loss and Gram loss on the activations of a frozen network.

Shapes: B pictures of H × W pixels, C channels of a layer.
Sources: Johnson et al. 2016, "Perceptual losses for real-time style transfer", equations 2 to 4, with absolute
differences; ControlTalk, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..checks import check_range, check_shape
from ..errors import InputError

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
Features = Callable[[Tensor], Sequence[Tensor]]  # normalised pictures (B, 3, H, W) to activations (B, C, H', W')


@dataclass(frozen=True)
class PerceptualLosses:
    """Perceptual loss and Gram loss of two batches of pictures."""

    features: Tensor  # scalar: mean absolute difference of activations, summed over layers and scales
    gram: Tensor  # scalar: mean absolute difference of Gram matrices at full size, summed over layers


class PerceptualLoss(nn.Module):
    """Compares pictures by a frozen network's activations.

    Args:
        network: gives activations of normalised pictures, such as `networks.vgg19.load_vgg19`'s.
        num_scales: sizes at which pictures are compared, each half the one before.
        layer_weights: how much each layer counts in the feature loss; None counts all alike, 1.

    Both losses are sums over layers (and scales); where a paper has a mean, divide by their number.
    """

    def __init__(self, network: Features, num_scales: int = 2, layer_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.num_scales = int(check_range(num_scales, 1, 8, "num_scales"))
        self.layer_weights = None if layer_weights is None else tuple(layer_weights)
        self.network = network
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION)[:, None, None], persistent=False)

    def forward(self, generated: Tensor, target: Tensor) -> PerceptualLosses:
        """Both losses of pictures.

        Args:
            generated: (B, 3, H, W) RGB in 0..1; gradients flow to it.
            target: the same shape; none do.

        Raises:
            ShapeError: no pictures.
            InputError: shapes that differ, or another number of layers than of their weights.
        """
        check_shape(generated, "B 3 H W", "generated pictures")
        if generated.shape != target.shape:
            raise InputError(f"pictures of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
        sums = []
        for scale in range(self.num_scales):
            if scale:
                generated, target = avg_pool2d(generated, 2), avg_pool2d(target, 2)
            generated_features = self._activations(generated)
            with torch.no_grad():
                target_features = self._activations(target)
            sums.append(feature_loss(generated_features, target_features, self.layer_weights))
            if scale == 0:
                gram = gram_loss(generated_features, target_features)
        return PerceptualLosses(torch.stack(sums).sum(), gram)

    def _activations(self, pictures: Tensor) -> Sequence[Tensor]:
        return self.network((pictures - self.mean) / self.deviation)


def feature_loss(
    generated: Sequence[Tensor], target: Sequence[Tensor], layer_weights: Sequence[float] | None = None
) -> Tensor:
    """Mean absolute difference of activations (B, C, H, W), weighted and summed over layers; a scalar, float32.

    Raises:
        InputError: another number of layers than of their weights.
    """
    weights = (1.0,) * len(generated) if layer_weights is None else layer_weights
    if len(weights) != len(generated):
        raise InputError(f"{len(weights)} layer weights do not fit a network of {len(generated)} layers.")
    layers = zip(weights, generated, target, strict=True)
    return sum(weight * (a.float() - b.float()).abs().mean() for weight, a, b in layers)


def gram_loss(generated: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of Gram matrices, summed over layers (B, C, H, W); a scalar, float32."""
    return sum((gram_matrix(a) - gram_matrix(b)).abs().mean() for a, b in zip(generated, target, strict=True))


def gram_matrix(activations: Tensor) -> Tensor:
    """Gram matrix of channels: (B, C, H, W) to (B, C, C), over C · H · W; float32.

    Source: Johnson et al. 2016, equation 3.
    """
    flat = activations.float().flatten(2)
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])
