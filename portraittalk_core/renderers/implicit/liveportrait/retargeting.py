"""LivePortrait's small networks: stitching, and retargeting of eyes and lips.

Shapes: B faces, K keypoints.
Source: J. Guo et al. 2024, "LivePortrait" (arXiv 2407.03168), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

SHIFTS = 2  # x and y of the whole face, which stitching gives besides


@dataclass(frozen=True)
class RetargetingSizes:
    """Hidden layers of the public file's networks."""

    num_keypoints: int = 21
    stitching: tuple[int, ...] = (128, 128, 64)
    lips: tuple[int, ...] = (128, 128, 64)
    eyes: tuple[int, ...] = (256, 256, 128, 128, 64)


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, first width) to (B, last width)."""
        return self.mlp(x)


class LivePortraitRetargeting(nn.Module):
    """`renderers.implicit.contract.Retargeting` of LivePortrait; always float32."""

    def __init__(self, sizes: RetargetingSizes) -> None:
        super().__init__()
        values = 3 * sizes.num_keypoints
        self.num_keypoints = sizes.num_keypoints
        self.retarget_shoulder = Mlp((2 * values, *sizes.stitching, values + SHIFTS))
        self.retarget_mouth = Mlp((values + 2, *sizes.lips, values))
        self.retarget_eye = Mlp((values + 3, *sizes.eyes, values))

    def stitch(self, source: Tensor, driving: Tensor) -> Tensor:
        """(B, K, 3); `source` is one face or B."""
        moves = self.retarget_shoulder(torch.cat([source.expand_as(driving).flatten(1), driving.flatten(1)], 1))
        points, shift = moves.split((3 * self.num_keypoints, SHIFTS), 1)
        shift = torch.cat([shift, torch.zeros_like(shift[:, :1])], 1)
        return driving + points.unflatten(1, (-1, 3)) + shift[:, None]

    def lips(self, source: Tensor, source_ratio: Tensor, wanted_ratio: Tensor) -> Tensor:
        """(B, K, 3); ratios (B,)."""
        return self._moved(self.retarget_mouth, source, source_ratio[:, None], wanted_ratio[:, None])

    def eyes(self, source: Tensor, source_ratio: Tensor, wanted_ratio: Tensor) -> Tensor:
        """(B, K, 3); `source_ratio` (B, 2), `wanted_ratio` (B,)."""
        return self._moved(self.retarget_eye, source, source_ratio, wanted_ratio[:, None])

    def _moved(self, network: Mlp, source: Tensor, *ratios: Tensor) -> Tensor:
        batch = max(len(source), *map(len, ratios))
        parts = [part.expand(batch, -1) for part in (source.flatten(1), *ratios)]
        return network(torch.cat(parts, 1)).unflatten(1, (-1, 3))
