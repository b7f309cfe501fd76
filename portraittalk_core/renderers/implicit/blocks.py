"""Blocks of convolutions that the networks of both keypoint families share.

Shapes: B pictures, C channels, D × H × W voxels.
Source: T.-C. Wang, A. Mallya, M.-Y. Liu, "One-Shot Free-View Neural Talking-Head Synthesis" (arXiv 2011.15126),
appendix A; the names of the layers are those of the public files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, relu


class SameBlock2d(nn.Module):
    """Convolution that keeps the size, batch norm, (leaky) ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, slope: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        return leaky_relu(self.norm(self.conv(x)), self.slope)


class DownBlock2d(nn.Module):
    """Convolution, batch norm, ReLU, half the height and width by averaging."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2)."""
        return self.pool(relu(self.norm(self.conv(x))))


class DownBlock3d(nn.Module):
    """Convolution, batch norm, ReLU, half the height and width by averaging; the depth stays."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm3d(out_channels)
        self.pool = nn.AvgPool2d(2)  # of every layer of depth: PyTorch averages volumes in float32 only on the CPU

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C', D, H/2, W/2)."""
        y = relu(self.norm(self.conv(x)))
        return self.pool(y.flatten(1, 2)).unflatten(1, y.shape[1:3])


class UpBlock3d(nn.Module):
    """Twice the height and width by repetition, convolution, batch norm, ReLU; the depth stays."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C', D, 2 H, 2 W)."""
        return relu(self.norm(self.conv(interpolate(x, scale_factor=(1, 2, 2)))))


class ResBlock3d(nn.Module):
    """Two convolutions, each after batch norm and ReLU, added to what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to the same."""
        return x + self.conv2(relu(self.norm2(self.conv1(relu(self.norm1(x))))))


def coordinate_grid(depth: int, height: int, width: int, device: torch.device) -> Tensor:
    """(D, H, W, 3) float32 coordinates x, y, z of voxels, from -1 at the first to 1 at the last along every axis.

    x counts to the right, y down, z away from the viewer.
    """
    z, y, x = torch.meshgrid([axis_places(n, device) for n in (depth, height, width)], indexing="ij")
    return torch.stack([x, y, z], -1)


def axis_places(count: int, device: torch.device) -> Tensor:
    """(count,) float32 from -1 to 1; 0 where there is one place only."""
    return torch.linspace(-1 if count > 1 else 0, 1 if count > 1 else 0, count, device=device)
