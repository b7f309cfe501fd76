"""Whether a face that was found stands as its landmarks say, or upside down.

A mesh network gives an upside-down face upright landmarks, with the mouth in the hair. MediaPipe's detector scores the
face's surroundings both ways: a face the right way up scores higher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..detection.blazeface import ShortRangeDetector
from ..topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from .refinement import face_size
from .torch_backend import Roi, cut, network

ROIS = (1.6, 2.0, 2.6, 3.4)  # sides of the squares that are looked at, over the face's
MARGIN = 1.0  # of the mean logit, by which the other way up must score higher: faces in masks differ by 0.5 at most


@torch.no_grad()
def is_upside_down(picture: Tensor, face: Tensor) -> bool:
    """Whether a face looks more like one the other way up.

    Args:
        picture: (H, W, 3) uint8.
        face: (478, 3) landmarks, pixels.
    """
    across = face[LEFT_EYE_CORNERS[1]] - face[RIGHT_EYE_CORNERS[0]]
    angle = math.atan2(float(across[1]), float(across[0]))
    return _score(picture, face, angle + math.pi) > _score(picture, face, angle) + MARGIN


def _score(picture: Tensor, face: Tensor, angle: float) -> float:
    middle, side = (face[:, :2].amin(0) + face[:, :2].amax(0)) / 2, face_size(face)
    x, y = middle.tolist()
    crops = [cut(picture, Roi(x, y, share * side, angle), ShortRangeDetector.side_px, True) for share in ROIS]
    _, logits = network(ShortRangeDetector)(torch.stack(crops) / 127.5 - 1)
    return float(logits.amax(1).mean())
