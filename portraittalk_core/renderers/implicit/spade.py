"""SPADE generator: warped features become the picture.

Shapes: B pictures, C channels, H × W pixels.
Sources: T. Park et al. 2019, "Semantic Image Synthesis with Spatially-Adaptive Normalization" (SPADE), where the map is
the features themselves; T. Miyato et al. 2018 for spectral normalisation, which the convolutions have in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, instance_norm, interpolate, leaky_relu, pad, relu
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from .sizes import ImplicitSizes

SLOPE = 0.2  # of the leaky ReLU


def conv_of_repeated(x: Tensor, weight: Tensor, bias: Tensor, times: int) -> Tensor:
    """A convolution of 3 × 3 over pixels that each stand `times` × `times` times, without repeating them.

    Most of the nine pixels under the kernel are the same one then, so that their weights are summed first: at four
    times the size, 25 products an original pixel instead of 144.

    Args:
        x: (B, C, H, W) before the repetition.
        weight: (C', C, 3, 3).
        bias: (C',).
        times: 1 or more.

    Returns:
        (B, C', times · H, times · W).
    """
    if times == 1:
        return conv2d(x, weight, bias, padding=1)
    batch, _, height, width = x.shape
    padded = pad(x, (1, 1, 1, 1))
    result = x.new_empty(batch, len(weight), height, times, width, times)
    for rows, top, high in _places(times):
        for columns, left, wide in _places(times):
            kernel = _summed(_summed(weight, 2, top, high), 3, left, wide)
            part = padded[:, :, 1 + top : height + top + high, 1 + left : width + left + wide]
            result[:, :, :, rows, :, columns] = conv2d(part, kernel, bias)[:, :, :, None, :, None]
    return result.reshape(batch, len(weight), height * times, width * times)


def _places(times: int) -> list[tuple[slice, int, int]]:
    """Repetitions of a pixel that see the same pixels; offset of the first that they see, and how many they see."""
    inner = [(slice(1, times - 1), 0, 1)] if times > 2 else []
    return [(slice(0, 1), -1, 2), *inner, (slice(times - 1, times), 0, 2)]


def _summed(weight: Tensor, axis: int, first: int, count: int) -> Tensor:
    """Weights along an axis, those added that meet the same original pixel."""
    one, two, three = weight.split(1, axis)
    if count == 1:
        return one + two + three
    return torch.cat([one, two + three] if first < 0 else [one + two, three], axis)


class Spade(nn.Module):
    """Instance norm whose scale and shift at every pixel follow from a map, which may be smaller by a whole factor."""

    def __init__(self, channels: int, map_channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(map_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """(B, C, H, W) normed, with a map (B, map_channels, H / n, W / n)."""
        first = self.mlp_shared[0]
        hidden = relu(conv_of_repeated(features, first.weight, first.bias, x.shape[-1] // features.shape[-1]))
        return torch.addcmul(self.mlp_beta(hidden), instance_norm(x), 1 + self.mlp_gamma(hidden))


def _as_it_is(conv: nn.Module) -> nn.Module:
    return conv


class SpadeBlock(nn.Module):
    """Two convolutions behind SPADE, and a shortcut that is learnt where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, sizes: ImplicitSizes, *, spectral_norm: bool) -> None:
        super().__init__()
        conv = with_spectral_norm if spectral_norm else _as_it_is
        middle = min(in_channels, out_channels)
        maps = sizes.feature_width, sizes.spade_hidden
        self.conv_0 = conv(nn.Conv2d(in_channels, middle, 3, padding=1))
        self.conv_1 = conv(nn.Conv2d(middle, out_channels, 3, padding=1))
        self.norm_0, self.norm_1 = Spade(in_channels, *maps), Spade(middle, *maps)
        self.conv_s = self.norm_s = None
        if in_channels != out_channels:
            self.conv_s = conv(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.norm_s = Spade(in_channels, *maps)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        shortcut = x if self.conv_s is None else self.conv_s(self.norm_s(x, features))
        x = self.conv_0(leaky_relu(self.norm_0(x, features), SLOPE))
        return shortcut + self.conv_1(leaky_relu(self.norm_1(x, features), SLOPE))


class SpadeGenerator(nn.Module):
    """Blocks at a quarter of the crop's size, two doublings, and a convolution to colours."""

    def __init__(self, sizes: ImplicitSizes, *, spectral_norm: bool = False) -> None:
        """Build the network.

        Args:
            sizes: of its layers.
            spectral_norm: for training; public weights are loaded without it, already divided by it.
        """
        super().__init__()
        wide, half, narrow = 2 * sizes.feature_width, sizes.feature_width, sizes.width
        self.num_middle = sizes.num_middle
        self.fc = nn.Conv2d(half, wide, 3, padding=1)
        for i in range(sizes.num_middle):
            self.add_module(f"G_middle_{i}", SpadeBlock(wide, wide, sizes, spectral_norm=spectral_norm))
        self.up_0 = SpadeBlock(wide, half, sizes, spectral_norm=spectral_norm)
        self.up_1 = SpadeBlock(half, narrow, sizes, spectral_norm=spectral_norm)
        colours = nn.Conv2d(narrow, 3 * sizes.upscale**2, 3, padding=1)
        self.conv_img = colours if sizes.upscale == 1 else nn.Sequential(colours, nn.PixelShuffle(sizes.upscale))

    def forward(self, features: Tensor) -> Tensor:
        """(B, feature_width, S/4, S/4) to (B, 3, upscale · S, upscale · S) in 0..1."""
        x = self.fc(features)
        for i in range(self.num_middle):
            x = getattr(self, f"G_middle_{i}")(x, features)
        for block in (self.up_0, self.up_1):
            x = block(interpolate(x, scale_factor=2), features)
        return torch.sigmoid(self.conv_img(leaky_relu(x, SLOPE)))
