"""face-vid2vid's estimator of head pose and expression.

Shapes: B pictures, K keypoints.
Source: arXiv 2011.15126, appendix A; K. He et al. 2016 for bottlenecks. The layers' names and shapes are those of the
public files.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

NARROWING = 4  # of a bottleneck


@dataclass(frozen=True)
class EstimatorSizes:
    """The defaults are those of the public files."""

    num_keypoints: int = 15
    width: int = 64  # of the stem; stages have 4, 8, 16 and 32 times as much
    depths: tuple[int, int, int, int] = (3, 3, 5, 2)  # bottlenecks that keep the size, in every stage
    num_bins: int = 66


class Bottleneck(nn.Module):
    """Three convolutions with batch norm, added to what comes in; the second may halve the size."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        narrow = channels // NARROWING
        self.conv1, self.norm1 = nn.Conv2d(channels, narrow, 1), nn.BatchNorm2d(narrow)
        self.conv2, self.norm2 = nn.Conv2d(narrow, narrow, 3, stride, 1), nn.BatchNorm2d(narrow)
        self.conv3, self.norm3 = nn.Conv2d(narrow, channels, 1), nn.BatchNorm2d(channels)
        self.skip = self.norm4 = None
        if stride > 1:
            self.skip, self.norm4 = nn.Conv2d(channels, channels, 1, stride), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride)."""
        y = relu(self.norm1(self.conv1(x)))
        y = relu(self.norm2(self.conv2(y)))
        shortcut = x if self.skip is None else self.norm4(self.skip(x))
        return relu(self.norm3(self.conv3(y)) + shortcut)


class HeadEstimator(nn.Module):
    """A residual network with heads for angles, translation and expression."""

    def __init__(self, sizes: EstimatorSizes) -> None:
        super().__init__()
        width = sizes.width
        stages = [width * 4 * 2**i for i in range(4)]
        self.conv1, self.norm1 = nn.Conv2d(3, width, 7, 2, 3), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, stages[0], 1), nn.BatchNorm2d(stages[0])
        self.block1 = _stage("b1", stages[0], sizes.depths[0])
        self.conv3, self.norm3 = nn.Conv2d(stages[0], stages[1], 1), nn.BatchNorm2d(stages[1])
        self.block2, self.block3 = Bottleneck(stages[1], 2), _stage("b3", stages[1], sizes.depths[1])
        self.conv4, self.norm4 = nn.Conv2d(stages[1], stages[2], 1), nn.BatchNorm2d(stages[2])
        self.block4, self.block5 = Bottleneck(stages[2], 2), _stage("b5", stages[2], sizes.depths[2])
        self.conv5, self.norm5 = nn.Conv2d(stages[2], stages[3], 1), nn.BatchNorm2d(stages[3])
        self.block6, self.block7 = Bottleneck(stages[3], 2), _stage("b7", stages[3], sizes.depths[3])
        self.fc_pitch, self.fc_yaw, self.fc_roll = (nn.Linear(stages[3], sizes.num_bins) for _ in range(3))
        self.fc_t = nn.Linear(stages[3], 3)
        self.fc_exp = nn.Linear(stages[3], 3 * sizes.num_keypoints)

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """Values by meaning: pitch, yaw, roll (B, bins), t (B, 3), exp (B, 3 K).

        The public networks were trained with the heads of yaw and roll exchanged: `fc_roll` gives yaw.
        """
        x = max_pool2d(relu(self.norm1(self.conv1(crops))), 3, 2, 1)
        x = self.block1(relu(self.norm2(self.conv2(x))))
        x = self.block3(self.block2(relu(self.norm3(self.conv3(x)))))
        x = self.block5(self.block4(relu(self.norm4(self.conv4(x)))))
        x = self.block7(self.block6(relu(self.norm5(self.conv5(x)))))
        x = x.mean((2, 3))
        heads = {"pitch": self.fc_pitch, "yaw": self.fc_roll, "roll": self.fc_yaw, "t": self.fc_t, "exp": self.fc_exp}
        return {name: head(x) for name, head in heads.items()}


def _stage(name: str, channels: int, count: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for i in range(count):
        blocks.add_module(f"{name}_{i}", Bottleneck(channels))
    return blocks
