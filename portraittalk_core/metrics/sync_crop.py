"""SyncNet's square face crop, from a face's box in every frame.

The published pipeline finds boxes by S3FD; here they are of the landmarks, which reach from chin to hairline as well,
so numbers come near to, but are not bit-equal with, those of its own detector.
Shapes: T frames.
Source: Chung and Zisserman 2016; scale 0.4 and the median of 13 as in its public code, `docs/design/metrics.md` 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..face.crop import resampled
from ..types import check_picture
from .networks.syncnet import CROP_PX

SCALE, MEDIAN = 0.4, 13
GREY = 110  # beyond the picture


def sync_boxes(face_boxes_px: Tensor) -> Tensor:
    """Square boxes of a tracked face.

    Args:
        face_boxes_px: (T, 4) x0, y0, x1, y1 as `face.geometry.face_box_px` gives them; where the face was not seen,
            held or interpolated.

    Returns:
        (T, 4) float64 x0, y0, x1, y1 in pixels: 1.4 times the face's larger side, from the face's own top down, so
        that the mouth is in the middle. They may reach beyond the picture.

    Raises:
        InputError: no boxes, empty ones, or values that are not numbers.
    """
    boxes = check_finite(check_shape(face_boxes_px, "T 4", "the face boxes"), "the face boxes").double()
    sides = boxes[:, 2:] - boxes[:, :2]
    if not len(boxes) or float(sides.min()) <= 0:
        raise InputError("the face boxes must be one or more, each x0, y0, x1, y1 with x0 < x1 and y0 < y1.")
    half = _steadied(sides.amax(1, keepdim=True) / 2)[:, 0]
    x, y = _steadied((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    reach, top = half * (1 + SCALE), y - half
    return torch.stack([x - reach, top, x + reach, top + 2 * reach], 1)


def sync_crop(picture: Tensor, box_px: Tensor) -> Tensor:
    """Face crop of one frame for `lse.SyncScorer`.

    Args:
        picture: (H, W, 3) uint8 RGB.
        box_px: (4,) of `sync_boxes`.

    Returns:
        (224, 224, 3) uint8; grey beyond the picture.
    """
    check_picture(picture, "the picture for SyncNet")
    left, top, right, bottom = check_shape(box_px, "4", "the box for SyncNet").tolist()
    room = [math.ceil(max(0.0, over)) for over in (-left, right - picture.shape[1], -top, bottom - picture.shape[0])]
    if any(room):
        planes = F.pad(picture.permute(2, 0, 1), room, value=GREY)
        picture = planes.permute(1, 2, 0)
    bounds = left + room[0], top + room[2], right + room[0], bottom + room[2]
    return resampled(picture, bounds, (CROP_PX, CROP_PX))


def _steadied(values: Tensor) -> Tensor:
    """(T, K) running median over 13 frames; the ends are padded by repetition."""
    around = MEDIAN // 2
    padded = torch.cat([values[:1].expand(around, -1), values, values[-1:].expand(around, -1)])
    return padded.unfold(0, MEDIAN, 1).median(2).values
