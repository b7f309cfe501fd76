"""PatchGAN discriminators with one logit per patch of 70 × 70 pixels, at one scale or several.

Shapes: B pictures of H × W pixels, C channels.
Sources: Isola et al. 2017, "Image-to-image translation with conditional adversarial networks" (pix2pix), section 6.1.2;
Wang et al. 2018 (pix2pixHD), section 3.2, for scales; Miyato et al. 2018 for spectral normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from ..checks import check_shape
from ..errors import InputError
from ..options import check_options, option

NORMS = {
    "instance": nn.InstanceNorm2d,  # without weights
    "batch": nn.BatchNorm2d,
    "none": lambda _: nn.Identity(),
}
SIDE, PADDING, SLOPE, WIDEST = 4, 2, 0.2, 512  # of convolutions, of the leaky ReLU; channels at most


@dataclass(frozen=True)
class DiscriminatorOptions:
    """Sizes of a discriminator; pix2pixHD's where not said otherwise."""

    in_channels: int = option(3, 1, 1024, "of the picture, and what it is judged with, concatenated")
    width: int = option(64, 1, WIDEST, "channels of the first convolution; each of the others doubles them, up to 512")
    num_layers: int = option(3, 1, 8, "convolutions that halve the size: 3 see patches of 70 pixels")
    norm: str = option("instance", help="of all layers but the first and the last", choices=tuple(NORMS))
    spectral_norm: bool = option(False, help="whether all convolutions have spectral normalisation")
    num_scales: int = option(2, 1, 8, "discriminators; each sees pictures half as large as the one before")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Judgement:
    """Outputs of a discriminator, scale by scale, the full size first."""

    logits: list[Tensor]  # (B, 1, h, w) of each scale
    activations: list[list[Tensor]]  # of each scale, of each layer before the logits: (B, C, h, w)


class PatchDiscriminator(nn.Module):
    """One scale: `num_layers` convolutions of stride 2, then two of stride 1.

    Args:
        options: `num_scales` does not count.
    """

    def __init__(self, options: DiscriminatorOptions) -> None:
        super().__init__()
        channels, self.layers = options.in_channels, nn.ModuleList()
        for number in range(options.num_layers + 1):
            width = min(options.width * 2**number, WIDEST)
            stride = 2 if number < options.num_layers else 1
            norm = NORMS[options.norm](width) if number else nn.Identity()
            layer = _convolution(channels, width, stride, options)
            self.layers.append(nn.Sequential(layer, norm, nn.LeakyReLU(SLOPE)))
            channels = width
        self.last = _convolution(channels, 1, 1, options)

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, 1, h, w) of pictures (B, C, H, W), and the activations of the layers before."""
        activations = []
        for layer in self.layers:
            pictures = layer(pictures)
            activations.append(pictures)
        return self.last(pictures), activations


class MultiScaleDiscriminator(nn.Module):
    """Discriminators of one build, each on pictures half as large as the one before."""

    def __init__(self, options: DiscriminatorOptions | None = None) -> None:
        super().__init__()
        self.options = options or DiscriminatorOptions()
        self.scales = nn.ModuleList(PatchDiscriminator(self.options) for _ in range(self.options.num_scales))

    def forward(self, pictures: Tensor) -> Judgement:
        """Logits and activations of pictures.

        Args:
            pictures: (B, C, H, W).

        Raises:
            ShapeError: another number of channels.
            InputError: too small for that many scales and layers.
        """
        options = self.options
        check_shape(pictures, f"B {options.in_channels} H W", "pictures for the discriminator")
        smallest = 2 ** (options.num_scales - 1 + options.num_layers)
        if min(pictures.shape[2:]) < smallest:
            raise InputError(
                f"pictures of {tuple(pictures.shape)} are too small for a discriminator of {options.num_scales} scales "
                f"and {options.num_layers} layers: it needs {smallest} pixels a side."
            )
        logits, activations = [], []
        for number, scale in enumerate(self.scales):
            if number:  # the border's padding does not count
                pictures = avg_pool2d(pictures, 3, 2, 1, count_include_pad=False)
            judged, layers = scale(pictures)
            logits.append(judged)
            activations.append(layers)
        return Judgement(logits, activations)


def _convolution(channels: int, width: int, stride: int, options: DiscriminatorOptions) -> nn.Module:
    layer = nn.Conv2d(channels, width, SIDE, stride, PADDING)
    return with_spectral_norm(layer) if options.spectral_norm else layer
