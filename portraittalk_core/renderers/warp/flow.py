"""Backward maps at pixels, and the parts of a picture where they move anything.

Shapes: h, w the box of pixels that may move; G = GRID nodes a side of a motion field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .field import GRID

BANDS = 16  # of rows of pixels, each of which is drawn from the first to the last column that moves
STILL_PX = 4e-3  # a node that moves less moves nothing
JOINED = 1.1  # bands are drawn as one where that makes no more than so many times as many pixels

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
        self.bands = [slice(start, stop) for start, stop in _edges(height)]
        down = (1 - (at[:, None] - torch.arange(GRID)).abs()).clamp(min=0)  # (h, G)
        # each lies between few nodes: a small product for each takes a third of the time of a look-up
        self.between = [slice(int(self.above[rows][0]), int(self.above[rows][-1]) + 2) for rows in self.bands]
        self.down = [down[rows, nodes].contiguous() for rows, nodes in zip(self.bands, self.between, strict=True)]

    def widened(self, nodes: Tensor) -> Tensor:
        """(G, 2 · w) values at the columns of pixels, beside each other, of (2, G, G) nodes; see `band`."""
        return (nodes.transpose(0, 1).reshape(2 * GRID, GRID) @ self.across).view(GRID, -1)

    def band(self, index: int, wide: Tensor) -> Tensor:
        """(2, rows, w) values at the pixels of one of the `bands`, from what `widened` gave."""
        rows = self.down[index] @ wide[self.between[index]]
        return rows.view(len(rows), 2, self.width).transpose(0, 1)

    def at(self, nodes: Tensor, part: Span) -> Tensor:
        """(…, rows, columns) values of (…, G, G) nodes at a part of the pixels."""
        rows, columns = part
        wide, above = nodes @ self.across[:, columns], self.above[rows]
        return torch.lerp(wide.index_select(-2, above), wide.index_select(-2, above + 1), self.share[rows])

    def spans(self, moves: Tensor) -> list[Span]:
        """Rectangles, one below another, around all pixels beside nodes that (G, G) bool `moves` marks."""
        near = F.max_pool2d(moves[None].float(), 3, 1, 1)[0].bool().numpy()
        to_rows, to_columns = (self.height - 1) / (GRID - 1), (self.width - 1) / (GRID - 1)
        spans: list[list[int]] = []
        for start, stop in _edges(self.height):
            columns = near[math.floor(start / to_rows) : math.ceil((stop - 1) / to_rows) + 1].any(0).nonzero()[0]
            if len(columns):
                left, right = math.floor(columns[0] * to_columns), math.ceil(columns[-1] * to_columns) + 1
                _join(spans, [start, stop, left, right])
        return [(slice(top, bottom), slice(left, right)) for top, bottom, left, right in spans]


def _edges(height: int) -> Iterator[tuple[int, int]]:
    """First and last row, exclusive, of every band that is not empty."""
    edges = [round(band * height / BANDS) for band in range(BANDS + 1)]
    return ((start, stop) for start, stop in itertools.pairwise(edges) if start < stop)


def overlay(planes: Tensor, place: Span, parts: list[tuple[Span, Tensor]]) -> None:
    """Put those (2, h, w) parts of a box that lie in a place, (2, rows, columns) of the same box, into it, in place."""
    for part, values in parts:
        rows, columns = (
            slice(max(one.start, other.start), min(one.stop, other.stop))
            for one, other in zip(place, part, strict=True)
        )
        if rows.start < rows.stop and columns.start < columns.stop:
            inside, of_part = ((_moved(rows, by[0].start), _moved(columns, by[1].start)) for by in (place, part))
            planes[(slice(None), *inside)] = values[(slice(None), *of_part)]


def _moved(span: slice, by: int) -> slice:
    return slice(span.start - by, span.stop - by)


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
