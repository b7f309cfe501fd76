"""Inception-v3 as FID uses it: 2048 numbers of a picture, by the weights of TensorFlow's graph of 2015-12-05.

It differs from torchvision's: averages leave the padding out, the last block takes a maximum, there are 1008 classes.
Shapes: B pictures.
Source: Szegedy et al. 2016, "Rethinking the Inception architecture"; names as `pt_inception-2015-12-05` has them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_shape
from ...errors import ShapeError

SIDE, WIDTH, NUM_CLASSES = 299, 2048, 1008

Size = int | tuple[int, int]


class ConvUnit(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: Size, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, each a chain of units, joined by channel.

    Args:
        cin: channels that enter.
        branches: of each branch its units: name, channels, kernel, stride, padding; a tuple of such lists at the end of
            a branch splits it.
        pool: what enters the branch "branch_pool" or joins as it is: "average", "max" or "stride" (max, by two).
    """

    def __init__(self, cin: int, branches: list[list], pool: str) -> None:
        super().__init__()
        self.pool, self.plan = pool, []
        for branch in branches:
            width, steps, split = cin, [], []
            for part in branch:
                if isinstance(part, tuple) and isinstance(part[0], tuple):
                    for unit in part:
                        self._add(width, unit)
                        split.append(unit[0])
                else:
                    self._add(width, part)
                    width = part[1]
                    steps.append(part[0])
            self.plan.append((steps, split))

    def _add(self, cin: int, unit: tuple) -> None:
        name, cout, kernel, *rest = unit
        setattr(self, name, ConvUnit(cin, cout, kernel, *rest))

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for steps, split in self.plan:
            y = self._pooled(x) if steps == ["branch_pool"] else x
            for name in steps:
                y = getattr(self, name)(y)
            joined += [getattr(self, name)(y) for name in split] or [y]
        return torch.cat([*joined, self._pooled(x)] if self.pool == "stride" else joined, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "stride":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _small(cin: int, pooled: int) -> Mixed:
    """35×35: kernels of 1, 5 and twice 3."""
    return Mixed(
        cin,
        [
            [("branch1x1", 64, 1)],
            [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5, 1, 2)],
            [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 1, 1)],
            [("branch_pool", pooled, 1)],
        ],
        "average",
    )


def _wide(c: int) -> Mixed:
    """17×17: kernels of 1×7 and 7×1, `c` channels inside."""
    across, down = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    return Mixed(
        768,
        [
            [("branch1x1", 192, 1)],
            [("branch7x7_1", c, 1), ("branch7x7_2", c, *across), ("branch7x7_3", 192, *down)],
            [
                ("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, *down), ("branch7x7dbl_3", c, *across),
                ("branch7x7dbl_4", c, *down), ("branch7x7dbl_5", 192, *across),
            ],
            [("branch_pool", 192, 1)],
        ],
        "average",
    )  # fmt: skip


def _late(cin: int, pool: str) -> Mixed:
    """8×8: branches that split into 1×3 and 3×1."""
    across, down = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    return Mixed(
        cin,
        [
            [("branch1x1", 320, 1)],
            [("branch3x3_1", 384, 1), (("branch3x3_2a", 384, *across), ("branch3x3_2b", 384, *down))],
            [
                ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3, 1, 1),
                (("branch3x3dbl_3a", 384, *across), ("branch3x3dbl_3b", 384, *down)),
            ],
            [("branch_pool", 192, 1)],
        ],
        pool,
    )  # fmt: skip


class FidInception(nn.Module):
    """Pictures to the 2048 numbers before the classes."""

    num_features = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _small(192, 32), _small(256, 64), _small(288, 64)
        thrice = [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3, 1, 1), ("branch3x3dbl_3", 96, 3, 2)]
        self.Mixed_6a = Mixed(288, [[("branch3x3", 384, 3, 2)], thrice], "stride")
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_wide(c) for c in (128, 160, 160, 192))
        seven = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7), 1, (0, 3)),
                 ("branch7x7x3_3", 192, (7, 1), 1, (3, 0)), ("branch7x7x3_4", 192, 3, 2)]  # fmt: skip
        self.Mixed_7a = Mixed(768, [[("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)], seven], "stride")
        self.Mixed_7b, self.Mixed_7c = _late(1280, "average"), _late(2048, "max")
        self.fc = nn.Linear(WIDTH, NUM_CLASSES)  # in the file, of no use here

    def forward(self, pictures: Tensor) -> Tensor:
        """Features.

        Args:
            pictures: (B, 3, H, W) uint8, or float 0..255.

        Returns:
            (B, 2048) float32.
        """
        check_shape(pictures, "B 3 H W", "the pictures for FID")
        if pictures.numel() == 0:
            raise ShapeError(f"the pictures for FID are empty, {tuple(pictures.shape)}.")
        x = (resized(pictures.float(), SIDE) - 128) / 128
        for name, step in self.named_children():
            if name == "fc":
                break
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, 2)
            x = step(x)
        return x.mean((2, 3))


def resized(pictures: Tensor, side: int) -> Tensor:
    """Bilinear, as TensorFlow 1 did: pixel i is read at i · size / side, without half a pixel's shift or antialiasing.

    Args:
        pictures: (B, 3, H, W) float.
        side: of the result, pixels.

    Returns:
        (B, 3, side, side).
    """
    for axis in (2, 3):
        size = pictures.shape[axis]
        at = torch.arange(side, dtype=torch.float32, device=pictures.device) * (size / side)
        low = at.floor().long().clamp(max=size - 1)
        share = (at - low).view(-1, 1) if axis == 2 else at - low
        lower, upper = (pictures.index_select(axis, i) for i in (low, (low + 1).clamp(max=size - 1)))
        pictures = lower + (upper - lower) * share
    return pictures
