"""Blocks that IP-LAP's networks and the paper's share, and the sampling of pictures along a flow.

Shapes: B pictures, C channels, H × W pixels, S side of a crop.
Sources: W. Zhong et al. 2023, "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors",
section 3.2, whose public file the attribute names are of; T. Park et al. 2019 (SPADE); X. Huang and S. Belongie 2017
(AdaIN); K. He et al. 2016 for residual blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, grid_sample, instance_norm, interpolate, leaky_relu, pad, relu

from ...engines.landmark_generator.network import MEL_STAGES, ConvolutionUnit
from .sizes import IPLAP_DECODER, SPADE_DECODER, LipSizes

SLOPE = 0.2  # of the leaky ReLU in blocks
NORM_EPSILON = 1e-5
VECTOR_HIDDEN = 128  # of the layers that scale and shift by a vector
Maps = tuple[Tensor, Tensor]  # gain and offset of normalised features


def normalised(x: Tensor) -> Tensor:
    """(B, C, H, W) with mean 0 and variance 1 in every channel of every picture.

    Where channels are stored last, torch's own would copy the tensor twice.
    """
    if x.dtype != torch.float32 or not x.is_contiguous(memory_format=torch.channels_last) or x.is_contiguous():
        return instance_norm(x, eps=NORM_EPSILON)
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    centred = pixels - pixels.mean(1, keepdim=True)
    if torch.is_grad_enabled():
        scale = (centred.square().mean(1, keepdim=True) + NORM_EPSILON).rsqrt()
        return (centred * scale).mT.unflatten(2, x.shape[2:])
    variance = torch.linalg.vector_norm(centred, dim=1, keepdim=True).square_() / centred.shape[1]
    return centred.mul_((variance + NORM_EPSILON).rsqrt_()).mT.unflatten(2, x.shape[2:])


def batch_normed(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A convolution and its batch norm; where nothing is learnt they are one convolution, which saves a pass."""
    if norm.training or torch.is_grad_enabled():
        return norm(convolution(x))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    return conv2d(x, convolution.weight * scale[:, None, None, None], bias, convolution.stride, convolution.padding)


class SpadeLayer(nn.Module):
    """Instance or batch norm, scaled and shifted at every pixel by maps made from a picture or features."""

    def __init__(self, channels: int, modulation: int, hidden: int, batch_norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False) if batch_norm else None
        self.conv1 = nn.Conv2d(modulation, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self._made: tuple | None = None  # what `_kernel` gave, and of which weights
        # products a pixel: of one convolution of 5 × 5, and of two of 3 × 3
        self._is_cheaper_composed = 25 * modulation * 2 * channels < 9 * hidden * (modulation + 2 * channels)

    def maps(self, modulation: Tensor) -> Maps:
        """Gain and offset (B, C, H, W) of a modulation (B, M, H, W).

        Between the two convolutions there is no ReLU in the public networks, so that they are one of 5 × 5 pixels.
        """
        composed = self._is_cheaper_composed and not torch.is_grad_enabled()
        gain, offset = (self._composed(modulation) if composed else self._one_by_one(modulation)).chunk(2, 1)
        return 1 + gain, offset

    def forward(self, x: Tensor, maps: Maps) -> Tensor:
        """(B, C, H, W) modulated; maps may be of fewer pictures, each for as many of x that follow one another."""
        gain, offset = maps
        grouped = (normalised(x) if self.norm is None else self.norm(x)).unflatten(0, (len(gain), -1))
        return torch.addcmul(offset[:, None], grouped, gain[:, None]).flatten(0, 1)

    def _one_by_one(self, modulation: Tensor) -> Tensor:
        return conv2d(self.conv1(modulation), *self._both(), padding=1)

    def _composed(self, modulation: Tensor) -> Tensor:
        """As `_one_by_one` with one convolution; at the edges, beyond which the second sees zeros, with both."""
        result = conv2d(modulation, *self._kernel(), padding=2)
        weights = self._both()
        for axis in (2, 3):
            for end, line in enumerate(self._edges(modulation, axis, weights)):
                result.narrow(axis, end * (result.shape[axis] - 1), 1).copy_(line)
        return result

    def _edges(self, modulation: Tensor, axis: int, weights: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """First and last row (axis 2) or column (axis 3) of what `_one_by_one` gives."""
        lines = []
        for end in (0, 1):
            near = modulation.narrow(axis, end * (modulation.shape[axis] - 3), 3)
            hidden = self.conv1(near).narrow(axis, end, 2)
            lines.append(pad(hidden, (0, 0, 1 - end, end) if axis == 2 else (1 - end, end, 0, 0)))
        return conv2d(torch.cat(lines), *weights, padding=(0, 1) if axis == 2 else (1, 0)).chunk(2)

    def _kernel(self) -> tuple[Tensor, Tensor]:
        """Weights (2C, M, 5, 5) and biases (2C,) of both convolutions; made anew when the layers' change."""
        versions = (0 if p.is_inference() else p._version for p in self.parameters())  # noqa: SLF001 - torch's counter
        key = tuple((p.data_ptr(), p.dtype, version) for p, version in zip(self.parameters(), versions, strict=True))
        if self._made is None or self._made[0] != key:
            weight, bias = self._both()
            kernel = conv2d(self.conv1.weight.transpose(0, 1), weight.flip(2, 3), padding=2).transpose(0, 1)
            last = self.conv1.weight.is_contiguous(memory_format=torch.channels_last)
            kernel = kernel.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            self._made = key, kernel, bias + weight.sum((2, 3)) @ self.conv1.bias
        return self._made[1:]

    def _both(self) -> tuple[Tensor, Tensor]:
        """Weights (2C, H, 3, 3) and biases (2C,) of gain and offset."""
        return torch.cat([self.gamma.weight, self.beta.weight]), torch.cat([self.gamma.bias, self.beta.bias])


class Spade(nn.Module):
    """Two modulated convolutions.

    IP-LAP's have instance norm and no shortcut; SPADE's own blocks have batch norm and one. Instance norm divides
    a channel by its own spread in the picture, and so takes away most of what it says of a part's colour.
    """

    def __init__(self, channels: int, modulation: int, hidden: int, decoder: str = IPLAP_DECODER) -> None:
        super().__init__()
        self.has_shortcut = decoder == SPADE_DECODER
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.spade_layer_1 = SpadeLayer(channels, modulation, hidden, self.has_shortcut)
        self.spade_layer_2 = SpadeLayer(channels, modulation, hidden, self.has_shortcut)

    def maps(self, modulation: Tensor) -> tuple[Maps, Maps]:
        """Of both layers; the same for all features that are modulated by one picture."""
        return self.spade_layer_1.maps(modulation), self.spade_layer_2.maps(modulation)

    def forward(self, x: Tensor, maps: tuple[Maps, Maps]) -> Tensor:
        """(B, C, H, W) to the same shape; see `SpadeLayer.forward`."""
        in_place = not torch.is_grad_enabled()
        inner = self.conv_1(leaky_relu(self.spade_layer_1(x, maps[0]), SLOPE, in_place))
        result = self.conv_2(leaky_relu(self.spade_layer_2(inner, maps[1]), SLOPE, in_place))
        return x + result if self.has_shortcut else result


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
        return normalised(x) * gain[:, :, None, None] + offset[:, :, None, None]


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
        inner = relu(batch_normed(self.conv1, self.norm1, x), inplace=not torch.is_grad_enabled())
        added = batch_normed(self.conv2, self.norm2, inner)
        return relu(x + added) if torch.is_grad_enabled() else added.add_(x).relu_()


@torch.no_grad()
def start_as_identity(fuse: nn.Conv2d, blocks: nn.Sequential) -> None:
    """Let a fusion of two features begin as handing the first ones through: the second ones' share is learnt."""
    nn.init.dirac_(fuse.weight)
    nn.init.zeros_(fuse.bias)
    for block in blocks:
        nn.init.zeros_(block.norm2.weight)
        nn.init.zeros_(block.norm2.bias)


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
        in_place = not torch.is_grad_enabled()
        narrow = relu(batch_normed(self.conv1, self.conv1_bn, x), in_place)
        return narrow, relu(batch_normed(self.conv2, self.conv2_bn, narrow), in_place)


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
