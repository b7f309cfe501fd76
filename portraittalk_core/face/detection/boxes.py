"""Boxes around faces: intersection over union, and greedy non-maximum suppression.

Shapes: N and M boxes, (N, 4) as x0, y0, x1, y1 in any unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_AREA = 1e-12  # of a union, so that boxes without area overlap nothing


def box_iou(first: Tensor, second: Tensor, end: float = 0) -> Tensor:
    """Intersection over union of every pair.

    Args:
        first: (N, 4).
        second: (M, 4).
        end: added to every side: 1 where x1 and y1 are the last pixels, 0 where they are borders.

    Returns:
        (N, M) 0..1; 0 where neither has an area.
    """
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low + end).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + end).prod(-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=MIN_AREA)


def suppression_groups(boxes: Tensor, max_iou: float, end: float = 0) -> list[Tensor]:
    """Greedy non-maximum suppression: the best box takes all that overlap it, the best of the rest likewise.

    Args:
        boxes: (N, 4), best first.
        max_iou: intersection over union with a better box up to which a box is kept.
        end: as for `box_iou`.

    Returns:
        For each box that is kept, best first, the numbers (int64) of it and of those it suppresses, in order.
    """
    remaining, groups = torch.arange(len(boxes)), []
    while len(remaining):
        same = box_iou(boxes[remaining[:1]], boxes[remaining], end)[0] > max_iou
        same[0] = True  # a box without area overlaps nothing, not even itself
        groups.append(remaining[same])
        remaining = remaining[~same]
    return groups


def suppress(boxes: Tensor, max_iou: float, end: float = 0) -> Tensor:
    """Numbers (K,) int64 of the boxes that `suppression_groups` keeps, best first."""
    return torch.tensor([int(group[0]) for group in suppression_groups(boxes, max_iou, end)], dtype=torch.long)
