"""ArcFace's aligned face crop: five points mapped onto a fixed template by a similarity transform.

Shapes: five points are the left eye, the right eye, the nose and the left and right corner of the mouth as the viewer
sees them, (5, 2) in pixels; whole numbers are the centres of pixels, as in OpenCV.
Source: Deng et al. 2019, "ArcFace", section 3 (the crop by five landmarks); Umeyama 1991 (the similarity transform).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_finite, check_shape
from ...errors import InputError, ShapeError

# where the five points come to lie in a crop of 112×112
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
TEMPLATE_PX = 112
MIN_CORRELATION = 1e-3  # with the template, below which rotation and scale are undefined
WIDE_PX, WIDE_MARGIN_PX = 128, 8.0  # crops of multiples of 128 have this much more to the left

# the oval of a face in the crop of 112: from the hairline to the chin, as wide as the cheeks
OVAL_CENTRE, OVAL_RADII = (56.0, 66.0), (43.0, 54.0)
OVAL_EDGE = 0.15  # share of the radius over which it fades, half of it on each side


def arcface_template(size: int) -> Tensor:
    """(5, 2) float64: where the five points lie in a crop of size×size pixels.

    Raises:
        InputError: not a multiple of 112 or 128.
    """
    points = torch.tensor(TEMPLATE, dtype=torch.float64)
    if isinstance(size, int) and size > 0:
        if size % TEMPLATE_PX == 0:
            return points * (size / TEMPLATE_PX)
        if size % WIDE_PX == 0:
            return (points + torch.tensor([WIDE_MARGIN_PX, 0.0])) * (size / WIDE_PX)
    raise InputError(f"an aligned face is a multiple of {TEMPLATE_PX} or {WIDE_PX} pixels wide, not {size!r}.")


def similarity(points: Tensor, target: Tensor) -> Tensor:
    """Least-squares similarity transform of points onto their targets, without reflection.

    In the plane, read as complex numbers, the least-squares turn and scale are one quotient: what Umeyama's singular
    values give in any number of dimensions.

    Args:
        points: (P, 2).
        target: (P, 2).

    Returns:
        (2, 3) float64: target ≈ matrix[:, :2] @ point + matrix[:, 2].

    Raises:
        InputError: all points are in one place.

    Source: Umeyama 1991, equations 40–42.
    """
    points, target = points.double(), target.double()
    middle, goal = points.mean(0), target.mean(0)
    source, destination = (torch.view_as_complex((p - m).contiguous()) for p, m in ((points, middle), (target, goal)))
    shared = (source.conj() * destination).sum()
    if shared.abs() <= MIN_CORRELATION * source.norm() * destination.norm():
        raise InputError("the points of the face lie all in one place or without order; it cannot be set upright.")
    turn = shared / source.norm() ** 2
    matrix = torch.stack([torch.stack([turn.real, -turn.imag]), torch.stack([turn.imag, turn.real])])
    return torch.cat([matrix, (goal - matrix @ middle)[:, None]], 1)


def norm_crop(picture: Tensor, points: Tensor, size: int = TEMPLATE_PX) -> Tensor:
    """Aligned face crop, sampled bilinearly; black outside the picture.

    Args:
        picture: (H, W, 3) uint8.
        points: (5, 2) px.
        size: side of the crop in pixels, a multiple of 112 or 128.

    Returns:
        (size, size, 3) uint8.

    Raises:
        InputError: points that are not finite or have no extent, or another size.
    """
    _check_picture(picture)
    return sampled(picture, similarity(_checked_points(points), arcface_template(size)), size)


def sampled(picture: Tensor, forward: Tensor, size: int) -> Tensor:
    """(size, size, 3) uint8: a picture (H, W, 3) uint8 under a transform (2, 3), bilinearly; black outside of it."""
    line = torch.arange(size, dtype=torch.float64)
    v, u = torch.meshgrid(line, line, indexing="ij")
    shifted = torch.stack([u, v], -1) - forward[:, 2]
    positions = shifted @ torch.linalg.inv(forward[:, :2]).T  # (size, size, 2) x and y in the picture

    # only the part of the picture that is seen becomes float
    last = torch.tensor([picture.shape[1], picture.shape[0]]) - 1
    low = positions.amin((0, 1)).floor().long().clamp(min=0)
    high = torch.minimum(positions.amax((0, 1)).ceil().long(), last)
    if (high < low).any():
        return torch.zeros(size, size, 3, dtype=torch.uint8)
    part = picture[low[1] : high[1] + 1, low[0] : high[0] + 1].permute(2, 0, 1)[None].float()
    sides = torch.tensor([part.shape[3], part.shape[2]])
    grid = ((positions - low) * 2 + 1) / sides - 1
    sampled = torch.nn.functional.grid_sample(part, grid[None].float(), padding_mode="zeros", align_corners=False)
    return sampled[0].permute(1, 2, 0).round().to(torch.uint8).contiguous()


def face_mask(points: Tensor, height: int, width: int) -> Tensor:
    """(H, W) float 0..1: an oval with a soft edge over the face of five points (5, 2) px in a picture of that size.

    Raises:
        InputError: points that are not finite or have no extent.
    """
    forward = similarity(_checked_points(points), arcface_template(TEMPLATE_PX))
    middle = torch.linalg.solve(forward[:, :2], torch.tensor(OVAL_CENTRE, dtype=torch.float64) - forward[:, 2])
    reach = max(OVAL_RADII) * (1 + OVAL_EDGE) / forward[:, 0].norm()
    mask = torch.zeros(height, width)
    left, top = (middle - reach).floor().clamp(min=0).long().tolist()
    right, bottom = (middle + reach).ceil().clamp(min=0).long().tolist()
    part = mask[top : bottom + 1, left : right + 1]  # the rest stays 0

    turn = (forward[:, :2] / torch.tensor(OVAL_RADII)[:, None]).float()
    x = left + torch.arange(part.shape[1]) - middle[0].float()
    y = (top + torch.arange(part.shape[0]) - middle[1].float())[:, None]
    distance = sum((x * turn[i, 0] + y * turn[i, 1]) ** 2 for i in (0, 1)).sqrt()
    ramp = ((1 + OVAL_EDGE / 2 - distance) / OVAL_EDGE).clamp(0, 1)
    part.copy_(ramp * ramp * (3 - 2 * ramp))
    return mask


def _check_picture(picture: Tensor) -> None:
    check_shape(picture, "H W 3", "the picture")
    if picture.dtype != torch.uint8 or not picture.numel():
        raise ShapeError(f"the picture must be uint8 and not empty, not {picture.dtype} of {tuple(picture.shape)}.")


def _checked_points(points: Tensor) -> Tensor:
    return check_finite(check_shape(points, "5 2", "the five points of the face").double(), "the points of the face")
