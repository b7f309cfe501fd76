"""dlib's face recognition network: a residual network of 29 convolutions that describes a face by 128 numbers.

Shapes: B faces.
Source: Davis King, "High Quality Face Recognition with Deep Metric Learning" (blog.dlib.net, 2017) and the network's
description in dlib's example dnn_face_recognition_ex.cpp: its layers are listed there. The affine layers behind the
convolutions are folded into them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHIP_PX = 150  # side of the upright face
WIDTH = 128  # numbers of a descriptor
MEAN_RGB = (122.782, 117.001, 104.298)  # of grey levels, taken off
RANGE = 256.0  # by which the rest is divided
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))  # channels, blocks, shrinks


class ResidualBlock(nn.Module):
    """Two convolutions of 3×3 beside the block's input; one that shrinks halves the input by averaging."""

    def __init__(self, inputs: int, outputs: int, shrinks: bool) -> None:
        super().__init__()
        self.shrinks = shrinks
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2 if shrinks else 1, padding=0 if shrinks else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H', W')."""
        inner = self.second(functional.relu(self.first(features)))
        shortcut = functional.avg_pool2d(features, 2) if self.shrinks else features
        return functional.relu(_added(inner, shortcut))


class FaceDescriptorNet(nn.Module):
    """Upright faces to descriptors; two of one person lie within 0.6 of each other, by Euclid's distance."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STAGES[0][0], 7, stride=2)
        blocks, inputs = [], STAGES[0][0]
        for outputs, count, shrinks in STAGES:
            for number in range(count):
                blocks.append(ResidualBlock(inputs, outputs, shrinks and number == 0))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, WIDTH, bias=False)
        self.register_buffer("mean_rgb", torch.tensor(MEAN_RGB), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        """Describe upright faces.

        Args:
            chips: (B, 150, 150, 3) uint8 or float grey levels 0..255, RGB, of `face_chip`.

        Returns:
            (B, 128), not of length 1.
        """
        planes = ((chips.float() - self.mean_rgb) / RANGE).permute(0, 3, 1, 2)
        features = functional.max_pool2d(functional.relu(self.stem(planes)), 3, stride=2)
        return self.head(self.blocks(features).mean((2, 3)))


def _added(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two feature maps; where one has fewer channels, rows or columns, zeros stand for what it lacks."""
    sides = [max(pair) for pair in zip(a.shape[1:], b.shape[1:], strict=True)]

    def padded(features: Tensor) -> Tensor:
        missing = [side - has for side, has in zip(sides, features.shape[1:], strict=True)]
        return functional.pad(features, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else features

    return padded(a) + padded(b)
