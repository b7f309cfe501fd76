"""MediaPipe's selfie segmentation as a torch network: a 256×256 picture to the probability of a person at each pixel.

An encoder of inverted residual blocks with squeeze-and-excitation, global context at the coarsest map, and a decoder
that weighs each skip connection by what both maps show. Written from the layer list of the published model; the weights
come from ``weights/selfie_segmentation.safetensors``, which ``tools/convert_segmentation.py`` makes.

Shapes: B pictures.
Source: Howard et al., "Searching for MobileNetV3", 2019, sections 5 and 6.4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE_PX = 256


def _act(swish: bool) -> nn.Module:
    return nn.Hardswish() if swish else nn.ReLU()


def _same(x: Tensor, kernel: int) -> Tensor:
    """Even sides padded for stride 2 as TensorFlow's SAME does: one row and column more after than before."""
    leading = (kernel - 2) // 2
    trailing = kernel - 2 - leading
    return F.pad(x, (leading, trailing, leading, trailing))


class _Weights(nn.Module):
    """Squeeze and excitation: weights 0..1 (B, C, 1, 1) of channels from their means."""

    def __init__(self, num_channels: int, num_hidden: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(num_channels, num_hidden, 1), nn.Conv2d(num_hidden, num_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class _Inverted(nn.Module):
    """Inverted residual block: 1×1 wider, depthwise, optional squeeze and excitation, 1×1 narrower."""

    def __init__(  # noqa: PLR0913 - a row of the paper's table 2
        self, num_in: int, num_wide: int, num_out: int, kernel: int, stride: int, num_hidden: int, swish: bool
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.skips = kernel, stride, stride == 1 and num_in == num_out
        self.expand, self.act = nn.Conv2d(num_in, num_wide, 1), _act(swish)
        padding = kernel // 2 if stride == 1 else 0
        self.depthwise = nn.Conv2d(num_wide, num_wide, kernel, stride, padding, groups=num_wide)
        self.weights = _Weights(num_wide, num_hidden) if num_hidden else None
        self.project = nn.Conv2d(num_wide, num_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.act(self.expand(x))
        wide = self.act(self.depthwise(wide if self.stride == 1 else _same(wide, self.kernel)))
        if self.weights is not None:
            wide = wide * self.weights(wide)
        out = self.project(wide)
        return out + x if self.skips else out


class _Context(nn.Module):
    """Features weighed by the picture's means."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.features, self.gate = nn.Conv2d(num_in, num_out, 1), nn.Conv2d(num_in, num_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.features(x)) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()


class _Up(nn.Module):
    """Twice as fine: upsampled features joined with an encoder map of that size."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(num_in, num_out, 1)
        self.weights = _Weights(num_out, num_out)
        self.mix = nn.Conv2d(num_out, num_out, 1)
        self.depthwise = nn.Conv2d(num_out, num_out, 3, padding=1, groups=num_out)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        up = self.reduce(F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))
        mixed = F.relu(self.mix(skip * self.weights(skip + up) + up))
        return mixed + F.relu(self.depthwise(mixed))


class SelfieSegmentation(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2)
        self.to_64 = _Inverted(16, 16, 16, 3, 2, 8, False)
        self.to_32 = nn.Sequential(_Inverted(16, 72, 24, 3, 2, 0, False), _Inverted(24, 88, 24, 3, 1, 0, False))
        self.to_16 = nn.Sequential(
            _Inverted(24, 96, 32, 5, 2, 24, True),
            _Inverted(32, 128, 32, 5, 1, 32, True),
            _Inverted(32, 128, 32, 5, 1, 32, True),
            _Inverted(32, 96, 32, 5, 1, 24, True),
            _Inverted(32, 96, 32, 5, 1, 24, True),
        )
        self.context = _Context(32, 128)
        self.up = nn.ModuleList([_Up(128, 24), _Up(24, 16), _Up(16, 16)])
        self.out = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 256, 256) probability of a person, of pictures (B, 3, 256, 256) in 0..1."""
        stem = F.hardswish(self.stem(_same(pictures, 3)))
        at_64 = self.to_64(stem)
        at_32 = self.to_32(at_64)
        x = self.context(self.to_16(at_32))
        for up, skip in zip(self.up, (at_32, at_64, stem), strict=True):
            x = up(x, skip)
        return torch.sigmoid(self.out(x))[:, 0]
