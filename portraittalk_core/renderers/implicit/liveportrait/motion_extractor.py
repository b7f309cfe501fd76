"""LivePortrait's motion extractor: ConvNeXt V2 with a head for each part of the keypoints.

Shapes: B pictures of S × S pixels, C channels, K keypoints.
Sources: J. Guo et al. 2024, "LivePortrait" (arXiv 2407.03168), section 3.1; S. Woo et al. 2023, "ConvNeXt V2"
(arXiv 2301.00808), section 3; the layers' names are those of the public file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

EPSILON = 1e-6
KERNEL, GROWTH = 7, 4  # of a block: side of its first convolution, widening inside
STEM, STRIDE = 4, 2  # how far the stem and every later stage shrink the picture


@dataclass(frozen=True)
class ExtractorSizes:
    """The defaults are ConvNeXt V2 tiny, as in the public file."""

    num_keypoints: int = 21
    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    num_bins: int = 66


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResponseNorm(nn.Module):
    """Global response normalisation: channels that answer strongly over the whole picture are raised over others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        strength = x.float().square().sum((1, 2), keepdim=True).sqrt()
        relative = strength / (strength.mean(-1, keepdim=True) + EPSILON)
        return self.gamma * (x * relative.to(x.dtype)) + self.beta + x


class ConvNextBlock(nn.Module):
    """A convolution of every channel by itself, then two linear layers at every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, GROWTH * channels)
        self.grn = ResponseNorm(GROWTH * channels)
        self.pwconv2 = nn.Linear(GROWTH * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y = self.norm(self.dwconv(x).movedim(1, -1))
        y = self.pwconv2(self.grn(gelu(self.pwconv1(y))))
        return x + y.movedim(-1, 1)


class Detector(nn.Module):
    """ConvNeXt V2 and seven linear heads."""

    def __init__(self, sizes: ExtractorSizes) -> None:
        super().__init__()
        widths, last = sizes.widths, sizes.widths[-1]
        stem = nn.Sequential(nn.Conv2d(3, widths[0], STEM, STEM), ChannelNorm(widths[0], eps=EPSILON))
        shrinking = (
            nn.Sequential(ChannelNorm(a, eps=EPSILON), nn.Conv2d(a, b, STRIDE, STRIDE))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.downsample_layers = nn.ModuleList([stem, *shrinking])
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNextBlock(width) for _ in range(depth)))
            for depth, width in zip(sizes.depths, widths, strict=True)
        )
        self.norm = nn.LayerNorm(last, eps=EPSILON)
        self.fc_kp = nn.Linear(last, 3 * sizes.num_keypoints)
        self.fc_scale = nn.Linear(last, 1)
        self.fc_pitch, self.fc_yaw, self.fc_roll = (nn.Linear(last, sizes.num_bins) for _ in range(3))
        self.fc_t = nn.Linear(last, 3)
        self.fc_exp = nn.Linear(last, 3 * sizes.num_keypoints)

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """Values of all heads by name: kp and exp (B, 3 K), pitch, yaw, roll (B, bins), t (B, 3), scale (B, 1)."""
        x = crops
        for shrink, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(shrink(x))
        x = self.norm(x.mean((2, 3)))
        return {name: getattr(self, f"fc_{name}")(x) for name in ("kp", "scale", "pitch", "yaw", "roll", "t", "exp")}


class MotionExtractor(nn.Module):
    """The detector under the name that the public file gives it."""

    def __init__(self, sizes: ExtractorSizes) -> None:
        super().__init__()
        self.detector = Detector(sizes)

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """See `Detector.forward`."""
        return self.detector(crops)
