"""Mouth crops of frames for the lip-sync network, differentiable with respect to the picture.

Shapes: B frames of H × W pixels, S side of the crops in pixels.
Source: ControlTalk, figure 3; the rule is that of its public code, on 68 points: the box begins at point 29 of the nose
and is as wide and high as the lower face.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ...checks import check_shape
from ...metrics.points68 import to_68

NOSE, JAW, CORNERS = 29, slice(0, 17), (48, 54)  # of the 68 points
GROW, TALL, HALF_WIDE = 1.1, 2.25, 1.25  # of the radius; box height and half width over it


def mouth_boxes(points_px: Tensor) -> Tensor:
    """Boxes of the mouth.

    With y0 = the nose point's height and r = ⌊1.1 · max(lowest jaw point − y0, mouth width) / 2⌋ a box is 2.5 r wide
    around the middle between the corners, and reaches from y0 down by 2.25 r.

    Args:
        points_px: (B, 468 or 478, 2 or 3) MediaPipe landmarks in pixels.

    Returns:
        (B, 4) x0, y0, x1, y1 in whole pixels, the ends exclusive; may reach beyond the picture.
    """
    points = to_68(points_px)[..., :2]
    left, right = (points[:, corner, 0] for corner in CORNERS)
    top = points[:, NOSE, 1]
    radius = (GROW * torch.maximum(points[:, JAW, 1].amax(1) - top, right - left) / 2).floor().clamp(min=1)
    middle = (left + right) / 2
    box = [middle - HALF_WIDE * radius, top, middle + HALF_WIDE * radius, top + TALL * radius]
    return torch.stack(box, 1).round()


def crop_mouths(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crops of pictures, enlarged or shrunk bilinearly, corner pixel on corner pixel; the edge is repeated beyond it.

    Args:
        pictures: (B, 3, H, W).
        boxes: (B, 4) of `mouth_boxes`.
        size: S.

    Returns:
        (B, 3, S, S); gradients flow to the pictures.
    """
    check_shape(pictures, "B 3 H W", "pictures")
    check_shape(boxes, f"{len(pictures)} 4", "mouth boxes")
    height, width = pictures.shape[2:]
    share = torch.linspace(0, 1, size, device=pictures.device)
    x0, y0, x1, y1 = boxes.to(pictures).unbind(1)
    columns = x0[:, None] + share * (x1 - 1 - x0)[:, None]
    rows = y0[:, None] + share * (y1 - 1 - y0)[:, None]
    columns, rows = (2 * at / (length - 1) - 1 for at, length in ((columns, width), (rows, height)))
    grid = torch.stack([columns[:, None].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], -1)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=True)
