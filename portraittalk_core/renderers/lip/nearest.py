"""Which references a frame is painted from: those whose drawn mouths are most like the frame's own.

What little has to be bent is bent well: of many references the few nearest ones paint better than all of them, and
cost less. They are told by the sketches, before any network sees them.
Shapes: B frames, K references, S side of a crop, P places of a sketch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

PLACES = 20  # across a sketch: lines that lie so near to one another count as the same


def mouth_lines(sketches: Tensor) -> Tensor:
    """(K, P) how much is drawn in each place of the lower halves of sketches (K, 3, S, S)."""
    lower = sketches[:, :1, sketches.shape[-2] // 2 :].float()
    return adaptive_avg_pool2d(lower, (PLACES // 2, PLACES)).flatten(1)


def nearest_places(references: Tensor, frames: Tensor, count: int) -> Tensor:
    """(B, count) numbers of the references nearest to each frame, in rising order.

    Args:
        references: (K, P) of `mouth_lines`.
        frames: (B, P) of the frames.
        count: at most K.
    """
    distances = torch.cdist(frames, references)
    return distances.topk(count, largest=False).indices.sort(1).values
