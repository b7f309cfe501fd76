"""Encoder of five mouth crops to an embedding, the picture's side of the lip-sync network.

Shapes: B windows of F crops, S side of a crop in pixels, D numbers of an embedding.
Source: Prajwal et al. 2020 (Wav2Lip), section 3.2: convolutions with batch normalisation and residuals, on crops that
are stacked along the channels: blue, green, red of each, as ControlTalk's network has them.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from ...checks import check_range, check_shape

NUM_CROPS = 5


class _Layer(nn.Module):
    """Convolution, batch normalisation, ReLU; a residual where the size stays."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(cin, cout, kernel, stride, padding), nn.BatchNorm2d(cout)
        self.residual = cin == cout and stride == 1 and kernel == 2 * padding + 1

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        return nn.functional.relu(out + x if self.residual else out)


class MouthEncoder(nn.Module):
    """Crops to a non-negative embedding.

    Args:
        crop_size: S, a power of two from 16.
        width: channels of the first layer; each halving of the size doubles them, up to `embedding`.
        embedding: D.
    """

    def __init__(self, crop_size: int = 128, width: int = 32, embedding: int = 1024) -> None:
        super().__init__()
        check_range(crop_size, 16, 512, "the side of mouth crops")
        self.crop_size, self.width, self.embedding = crop_size, width, embedding
        halvings = int(math.log2(crop_size)) - 2  # to 4 × 4
        channels, layers = width, [_Layer(3 * NUM_CROPS, width, 7, 1, 3)]
        for _ in range(halvings):
            following = min(2 * channels, embedding)
            layers += [_Layer(channels, following, stride=2), _Layer(following, following)]
            channels = following
        layers += [_Layer(channels, embedding, 4, 1, 0)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(embedding, embedding)

    def forward(self, crops: Tensor) -> Tensor:
        """(B, D), none below 0, of crops (B, 5, 3, S, S), RGB in 0..1."""
        size = self.crop_size
        check_shape(crops, f"B {NUM_CROPS} 3 {size} {size}", "mouth crops")
        stacked = crops.flip(2).flatten(1, 2)
        return nn.functional.relu(self.out(self.layers(stacked).flatten(1)))
