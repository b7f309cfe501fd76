"""Which references a frame is painted from: those whose drawn mouths are most like the frame's own.

What little has to be bent is bent well: of many references the few nearest ones paint better than all of them, and
cost less. So do lip references. They are told by the sketches, before any network sees them.
Shapes: B frames, K references, S side of a crop, P places of a sketch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

PLACES = 20  # across a sketch: lines that lie so near to one another count as the same


def mouth_lines(sketches: Tensor) -> Tensor:
    """(..., P) how much is drawn in each place of the lower halves of sketches (..., 3, S, S)."""
    lower = sketches[..., :1, sketches.shape[-2] // 2 :, :].float()
    return adaptive_avg_pool2d(lower.flatten(0, -4), (PLACES // 2, PLACES)).view(*sketches.shape[:-3], -1)


def nearest_places(references: Tensor, frames: Tensor, count: int) -> Tensor:
    """(B, count) numbers of the references nearest to each frame, in rising order.

    Args:
        references: (K, P) of `mouth_lines`, or (B, K, P) of each frame's own references.
        frames: (B, P) of the frames.
        count: at most K.
    """
    distances = torch.cdist(frames[:, None], references)[:, 0]
    return distances.topk(count, largest=False).indices.sort(1).values


def nearest_lips(references: Tensor, frames: Tensor, count: int) -> Tensor:
    """As `nearest_places`, of lip references, whose sketches show nothing but lips.

    Of the frames' lines those count that lie in the rectangle which holds all drawn lips.
    """
    drawn = (references > 0).any(-2).unflatten(-1, (PLACES // 2, PLACES))
    rectangle = _between(drawn.any(-1))[..., None] & _between(drawn.any(-2))[..., None, :]
    return nearest_places(references, frames * rectangle.flatten(-2), count)


def _between(marked: Tensor) -> Tensor:
    """(..., N) bool: from the first to the last place that is marked."""
    return (marked.cumsum(-1) > 0) & (marked.flip(-1).cumsum(-1).flip(-1) > 0)
