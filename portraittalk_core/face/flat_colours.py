"""Whether a face is drawn in flat colours, as cartoons are: what is painted on it should be flat too."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_shape
from ..types import NUM_LANDMARKS, check_picture
from . import topology as topo

GRID = 16  # squares along the face and across it that are looked at
WITHIN = 0.85  # of the ellipse in the face's box
SQUARE = 0.03  # side of a square, of the face's smaller side
SAMPLES = 7  # pixels a side of a square that are compared
EVEN = 1.0  # levels of standard deviation in a square of one colour; grain, skin and shading have more
FLAT = 0.15  # share of even squares: 0.26 and 0.31 in two drawings, at most 0.02 in photographs, paintings and 3D films
BURNT = 252  # a level at which a photograph is even because it shows nothing
WHITE = 0.5  # share of even squares, white ones too: drawn on paper


def is_flat(picture: Tensor, points_px: Tensor) -> bool:
    """Whether much of a face is of even colours.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or 3) landmarks, pixels.
    """
    check_picture(picture, "the picture of the face")
    check_shape(points_px, f"{NUM_LANDMARKS} {points_px.shape[-1]}", "the landmarks of the face")
    oval = points_px[list(topo.FACE_OVAL), :2].float()
    low, high = oval.amin(0), oval.amax(0)
    reach = SQUARE / 2 * float((high - low).min())
    if reach < 1:  # in so small a face nothing is uneven
        return False
    line = torch.linspace(-WITHIN, WITHIN, GRID)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    at = (low + high) / 2 + places[places.norm(dim=1) < WITHIN] * (high - low) / 2
    steps = torch.linspace(-reach, reach, SAMPLES)
    height, width = picture.shape[:2]
    columns = (at[:, :1] + steps).long().clamp(0, width - 1)
    rows = (at[:, 1:] + steps).long().clamp(0, height - 1)
    squares = picture[rows[:, :, None], columns[:, None, :]].float().flatten(1, 2)  # (N, SAMPLES², 3)
    is_even = squares.std(1).amax(1) < EVEN
    shows = squares.mean(1).amin(1) < BURNT
    return float((is_even & shows).float().mean()) > FLAT or float(is_even.float().mean()) > WHITE
