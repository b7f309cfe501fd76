"""The network that moves the expression of implicit keypoints by speech.

Source: ControlTalk (arXiv 2406.02880), section 3.2. The order of numbers is that of its public weights: the expression
goes in coordinate by coordinate (all x, all y, all z), and comes out keypoint by keypoint.

Shapes: B frames, K keypoints, R rows of a window, D channels of a row, C channels of a window's embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....speech.windows import ROWS
from ....types.keypoint_track import KEYPOINT_LAYOUTS

DROPOUT = 0.1


@dataclass(frozen=True)
class Audio2ExpSize:
    """Sizes of the network; the defaults are those of the public weights."""

    layout: str = "face-vid2vid-15"  # of `KeypointTrack`
    features: int = 1024  # D: HuBERT large
    rows: int = ROWS
    widths: tuple[int, int, int, int] = (2048, 1024, 512, 1024)  # of the four heads; the last is C

    @property
    def keypoints(self) -> int:
        """K of the layout."""
        return KEYPOINT_LAYOUTS[self.layout]


class ProjectionHead(nn.Module):
    """A projection, a residual layer on it, and layer normalisation."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width_in, width)
        self.fc = nn.Linear(width, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width_in) to (B, width)."""
        projected = self.projection(x)
        return self.layer_norm(projected + self.dropout(self.fc(F.gelu(projected))))


class AudioEncoder(nn.Module):
    """A window of speech to one vector: the sound's half of ControlTalk's lip-sync network."""

    def __init__(self, size: Audio2ExpSize) -> None:
        super().__init__()
        first, second, third, last = size.widths
        self.fc1 = ProjectionHead(size.rows * size.features, first)
        self.fc2 = ProjectionHead(first, second)
        self.fc3 = ProjectionHead(second, third)
        self.fc4 = ProjectionHead(third, last)

    def forward(self, windows: Tensor) -> Tensor:
        """(B, R, D) to (B, C)."""
        return self.fc4(self.fc3(self.fc2(self.fc1(windows.flatten(1)))))


class Audio2Exp(nn.Module):
    """Expression and speech to the expression that says it; untrained, it leaves the expression as it is."""

    def __init__(self, size: Audio2ExpSize | None = None) -> None:
        super().__init__()
        self.size = size or Audio2ExpSize()
        self.audio_encoder = AudioEncoder(self.size)
        numbers = 3 * self.size.keypoints
        self.out_fc = nn.Linear(numbers + self.size.widths[-1], numbers)
        nn.init.zeros_(self.out_fc.weight)
        nn.init.zeros_(self.out_fc.bias)

    def displacement(self, expression: Tensor, embedding: Tensor) -> Tensor:
        """(B, K, 3) what speech adds to an expression.

        Args:
            expression: (B, K, 3).
            embedding: (B, C) of `audio_encoder`.
        """
        by_coordinate = expression.mT.flatten(1)
        return self.out_fc(torch.cat([by_coordinate, embedding], 1)).unflatten(1, (-1, 3))

    def forward(self, expression: Tensor, windows: Tensor, alpha: Tensor | float = 1.0) -> Tensor:
        """(B, K, 3) expression moved by speech.

        Args:
            expression: (B, K, 3).
            windows: (B, R, D) HuBERT rows.
            alpha: how far; one number, or (B,) one a frame.
        """
        return self.displaced(expression, self.audio_encoder(windows), alpha)

    def displaced(self, expression: Tensor, embedding: Tensor, alpha: Tensor | float = 1.0) -> Tensor:
        """As `forward`, from (B, C) of `audio_encoder`."""
        amount = alpha[:, None, None] if isinstance(alpha, Tensor) and alpha.ndim else alpha
        return expression + amount * self.displacement(expression, embedding)
