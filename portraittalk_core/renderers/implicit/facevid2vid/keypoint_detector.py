"""face-vid2vid's detector of canonical keypoints: where the face's points would be, were it neutral and frontal.

Shapes: B pictures, K keypoints, D × H × W voxels.
Source: arXiv 2011.15126, section 3 and appendix A; the layers' names and shapes are those of the public files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from ..blocks import DownBlock2d, UpBlock3d, axis_places

TEMPERATURE = 0.1  # of the softmax over voxels
REACH = 4  # standard deviations that the smoothing filter covers on either side


@dataclass(frozen=True)
class DetectorSizes:
    """The defaults are those of the public files."""

    num_keypoints: int = 15
    width: int = 32
    max_width: int = 1024
    num_blocks: int = 5
    depth: int = 16
    shrink: int = 4  # the crop is seen at this part of its size

    def width_at(self, halvings: int) -> int:
        """Channels after some halvings."""
        return min(self.max_width, self.width * 2**halvings)


def smoothing_filter(shrink: int) -> Tensor:
    """(N, N) Gaussian that a picture is smoothed with before all but every `shrink`-th pixel are dropped; sums to 1."""
    deviation = (shrink - 1) / 2
    reach = round(REACH * deviation)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    line = torch.exp(offsets.square() / (-2 * max(deviation, 1e-6) ** 2))
    kernel = line[:, None] * line
    return kernel / kernel.sum()


class Shrink(nn.Module):
    """A picture at a part of its size, smoothed first; the filter is a buffer as in the public files."""

    def __init__(self, shrink: int) -> None:
        super().__init__()
        self.shrink = shrink
        self.register_buffer("weight", smoothing_filter(shrink).expand(3, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, 3, S / shrink, S / shrink)."""
        reach = self.weight.shape[-1] // 2
        return conv2d(pad(x, (reach,) * 4), self.weight, stride=self.shrink, groups=3)


class Predictor(nn.Module):
    """Halvings of the picture, a volume out of its channels, and as many doublings of height and width."""

    def __init__(self, sizes: DetectorSizes) -> None:
        super().__init__()
        count, last = sizes.num_blocks, sizes.width_at(sizes.num_blocks)
        self.volume = last, sizes.depth
        self.down_blocks, self.up_blocks = nn.Sequential(), nn.Sequential()
        for i in range(count):
            wide = 3 if i == 0 else sizes.width_at(i)
            self.down_blocks.add_module(f"down{i}", DownBlock2d(wide, sizes.width_at(i + 1)))
            self.up_blocks.add_module(f"up{i}", UpBlock3d(sizes.width_at(count - i), sizes.width_at(count - i - 1)))
        self.conv = nn.Conv2d(last, last * sizes.depth, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, width, D, H, W)."""
        return self.up_blocks(self.conv(self.down_blocks(x)).unflatten(1, self.volume))


class KeypointDetector(nn.Module):
    """One heat volume a keypoint; the keypoint is its mean place."""

    def __init__(self, sizes: DetectorSizes) -> None:
        super().__init__()
        self.predictor = Predictor(sizes)
        self.kp = nn.Conv3d(sizes.width, sizes.num_keypoints, 3, padding=1)
        self.down = Shrink(sizes.shrink)

    def forward(self, crops: Tensor) -> Tensor:
        """(B, K, 3) float32 keypoints x, y, z in -1..1 of (B, 3, S, S) crops."""
        return mean_places(self.kp(self.predictor(self.down(crops))))


def mean_places(logits: Tensor) -> Tensor:
    """(B, K, 3) float32 places x, y, z in -1..1, where voxels of (B, K, D, H, W) logits weigh by softmax."""
    heat = (logits.float() / TEMPERATURE).flatten(2).softmax(-1).unflatten(2, logits.shape[2:])
    places = []
    for axis in (4, 3, 2):  # x, y, z
        curve = heat.sum([other for other in (2, 3, 4) if other != axis])
        places.append(curve @ axis_places(logits.shape[axis], logits.device))
    return torch.stack(places, -1)
