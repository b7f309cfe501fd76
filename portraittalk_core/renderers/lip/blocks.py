"""Blocks that IP-LAP's networks and the paper's share, and the sampling of pictures along a flow.

Shapes: B pictures, C channels, H × W pixels, S side of a crop.
Sources: W. Zhong et al. 2023, "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors",
section 3.2, whose public file the attribute names are of; T. Park et al. 2019 (SPADE); X. Huang and S. Belongie 2017
(AdaIN); K. He et al. 2016 for residual blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, instance_norm, interpolate, leaky_relu, relu

from ...engines.landmark_generator.network import MEL_STAGES, ConvolutionUnit
from .sizes import LipSizes

SLOPE = 0.2  # of the leaky ReLU in blocks
VECTOR_HIDDEN = 128  # of the layers that scale and shift by a vector
Maps = tuple[Tensor, Tensor]  # gain and offset of normalised features


class SpadeLayer(nn.Module):
    """Instance norm, scaled and shifted at every pixel by maps made from a picture or features."""

    def __init__(self, channels: int, modulation: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(modulation, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def maps(self, modulation: Tensor) -> Maps:
        """Gain and offset (B, C, H, W) of a modulation (B, M, H, W); between its convolutions nothing is cut off."""
        hidden = self.conv1(modulation)
        return 1 + self.gamma(hidden), self.beta(hidden)

    def forward(self, x: Tensor, maps: Maps) -> Tensor:
        """(B, C, H, W) modulated; maps may be of fewer pictures, each for as many of x that follow one another."""
        gain, offset = maps
        grouped = instance_norm(x).unflatten(0, (len(gain), -1))
        return torch.addcmul(offset[:, None], grouped, gain[:, None]).flatten(0, 1)


class Spade(nn.Module):
    """Two modulated convolutions."""

    def __init__(self, channels: int, modulation: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.spade_layer_1 = SpadeLayer(channels, modulation, hidden)
        self.spade_layer_2 = SpadeLayer(channels, modulation, hidden)

    def maps(self, modulation: Tensor) -> tuple[Maps, Maps]:
        """Of both layers; the same for all features that are modulated by one picture."""
        return self.spade_layer_1.maps(modulation), self.spade_layer_2.maps(modulation)

    def forward(self, x: Tensor, maps: tuple[Maps, Maps]) -> Tensor:
        """(B, C, H, W) to the same shape; see `SpadeLayer.forward`."""
        x = self.conv_1(leaky_relu(self.spade_layer_1(x, maps[0]), SLOPE))
        return self.conv_2(leaky_relu(self.spade_layer_2(x, maps[1]), SLOPE))


class VectorNorm(nn.Module):
    """Instance norm, scaled and shifted in every channel by a vector."""

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(vector, VECTOR_HIDDEN), nn.ReLU())
        self.mlp_gamma = nn.Linear(VECTOR_HIDDEN, channels)
        self.mlp_beta = nn.Linear(VECTOR_HIDDEN, channels)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """(B, C, H, W) and (B, V)."""
        hidden = self.mlp_shared(vector)
        gain, offset = 1 + self.mlp_gamma(hidden), self.mlp_beta(hidden)
        return instance_norm(x) * gain[:, :, None, None] + offset[:, :, None, None]


class AdaIN(nn.Module):
    """Two convolutions modulated by a vector."""

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.adain_layer_1 = VectorNorm(channels, vector)
        self.adain_layer_2 = VectorNorm(channels, vector)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """(B, C, H, W) and (B, V) to (B, C, H, W)."""
        x = self.conv_1(leaky_relu(self.adain_layer_1(x, vector), SLOPE))
        return self.conv_2(leaky_relu(self.adain_layer_2(x, vector), SLOPE))


class ResBlock(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return relu(x + self.norm2(self.conv2(relu(self.norm1(self.conv1(x))))))


class PictureEncoder(nn.Module):
    """Features of pictures at full size and at half the size."""

    def __init__(self, channels: int, sizes: LipSizes, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, sizes.narrow, 7, padding=3, bias=bias)
        self.conv1_bn = nn.BatchNorm2d(sizes.narrow)
        self.conv2 = nn.Conv2d(sizes.narrow, sizes.wide, 3, 2, 1, bias=bias)
        self.conv2_bn = nn.BatchNorm2d(sizes.wide)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, S, S) to (B, narrow, S, S) and (B, wide, S/2, S/2)."""
        narrow = relu(self.conv1_bn(self.conv1(x)))
        return narrow, relu(self.conv2_bn(self.conv2(narrow)))


def mel_layers(widths: tuple[int, ...], whole: bool = True) -> nn.Sequential:
    """Encoder of mel chunks (B, 1, 80, 16).

    Args:
        widths: of four strided stages, and of what comes out.
        whole: down to one position (B, V, 1, 1); else it ends at 3 × 3 positions (B, widths[3], 3, 3).
    """

    def block(inner: int, outer: int, side: int, stride: int | tuple[int, int], margin: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inner, outer, side, stride, margin), nn.BatchNorm2d(outer))

    units, channels = [], 1
    for width, (_, stride, repeats) in zip(widths, MEL_STAGES, strict=False):
        units.append(ConvolutionUnit(block(channels, width, 3, stride, 1)))
        units += [ConvolutionUnit(block(width, width, 3, 1, 1), residual=True) for _ in range(repeats)]
        channels = width
    if whole:
        units.append(ConvolutionUnit(block(channels, widths[-1], 3, 1, 0)))
        units.append(ConvolutionUnit(block(widths[-1], widths[-1], 1, 1, 0)))
    return nn.Sequential(*units)


def sampling_grid(flow: Tensor) -> Tensor:
    """Places to sample at, float32 (B, H, W, 2), of a flow (B, 2, H, W): x and y in pixels.

    As the public weights were trained, places run from −1 at the first pixel to 1 at the last, while `sampled` counts
    from the outer edges of the pixels: so no flow is a magnification by n / (n − 1).
    """
    height, width = flow.shape[2:]
    columns = torch.linspace(-1, 1, width, device=flow.device)
    rows = torch.linspace(-1, 1, height, device=flow.device)
    base = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], 2)
    return base + flow.float().permute(0, 2, 3, 1) * flow.new_tensor([2 / (width - 1), 2 / (height - 1)]).float()


def resized_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """A sampling grid (B, H, W, 2) at another size; it is the grid that is resized, not the flow."""
    if grid.shape[1:3] == size:
        return grid
    return interpolate(grid.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def sampled(x: Tensor, grid: Tensor) -> Tensor:
    """Float32 features (B, C, H, W) at the places of a grid, which is resized to theirs; 0 outside of them."""
    return grid_sample(x.float(), resized_grid(grid, tuple(x.shape[2:])), align_corners=False)
