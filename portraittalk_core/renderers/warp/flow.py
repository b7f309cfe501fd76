"""Backward maps at pixels, and the parts of a picture where they move anything.

Shapes: h, w the box of pixels that may move; G = GRID nodes a side of a motion field.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .field import GRID

STRIPS = 16  # rows of pixels, each of which is drawn from the first to the last column that moves
STILL_PX = 4e-3  # a node that moves less moves nothing
JOINED = 1.1  # strips are drawn as one where that makes no more than so many times as many pixels

Span = tuple[slice, slice]  # rows and columns of a box


class FlowGrid:
    """Bilinear interpolation of a field's nodes at the pixels of its box.

    Args:
        height: h.
        width: w.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.whole: Span = (slice(0, height), slice(0, width))
        at = torch.arange(width) * ((GRID - 1) / max(width - 1, 1))
        self.across = (1 - (at - torch.arange(GRID)[:, None]).abs()).clamp(min=0)  # (G, w)
        at = torch.arange(height) * ((GRID - 1) / max(height - 1, 1))
        self.above = at.long().clamp(max=GRID - 2)
        self.share = (at - self.above)[:, None]

    def __call__(self, nodes: Tensor, part: Span | None = None, out: Tensor | None = None) -> Tensor:
        """(…, rows, columns) values of (…, G, G) nodes at a part of the pixels, or at all."""
        rows, columns = part or (slice(None), slice(None))
        wide, above = nodes @ self.across[:, columns], self.above[rows]
        return torch.lerp(wide.index_select(-2, above), wide.index_select(-2, above + 1), self.share[rows], out=out)

    def spans(self, moves: Tensor) -> list[Span]:
        """Rectangles, one below another, around all pixels beside nodes that (G, G) bool `moves` marks."""
        near = F.max_pool2d(moves[None].float(), 3, 1, 1)[0].bool().numpy()
        to_rows, to_columns = (self.height - 1) / (GRID - 1), (self.width - 1) / (GRID - 1)
        spans: list[list[int]] = []
        edges = [round(strip * self.height / STRIPS) for strip in range(STRIPS + 1)]
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            columns = near[math.floor(start / to_rows) : math.ceil((stop - 1) / to_rows) + 1].any(0).nonzero()[0]
            if stop > start and len(columns):
                left, right = math.floor(columns[0] * to_columns), math.ceil(columns[-1] * to_columns) + 1
                _join(spans, [start, stop, left, right])
        return [(slice(top, bottom), slice(left, right)) for top, bottom, left, right in spans]


def _join(spans: list[list[int]], strip: list[int]) -> None:
    """Add a strip (top, bottom, left, right) to those above it, in place."""
    if spans and spans[-1][1] == strip[0]:
        last = spans[-1]
        both = [last[0], strip[1], min(last[2], strip[2]), max(last[3], strip[3])]
        if _area(both) <= JOINED * (_area(last) + _area(strip)):
            spans[-1] = both
            return
    spans.append(strip)


def _area(strip: list[int]) -> int:
    return (strip[1] - strip[0]) * (strip[3] - strip[2])
