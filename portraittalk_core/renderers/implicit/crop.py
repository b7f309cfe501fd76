"""Crops of faces as a keypoint family frames them: a square of the picture, upright with the face or with the picture.

Shapes: S side of a crop, M rows and columns of samples. A position in pixels is that of a pixel's middle: the first one
is at 0, as in OpenCV and in the public code; landmarks count from the first pixel's corner instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import check_finite, check_shape
from ...errors import InputError
from ...face import topology as topo
from ...types import LandmarkTrack, check_picture
from .contract import CropRule

# What the detectors of the public code measure a face by: jaw below the eyes, brows, eyes, nose, lips; no forehead,
# which our mesh has besides. With it a crop would be larger than the networks have seen.
JAW = topo.FACE_OVAL[topo.FACE_OVAL.index(356) : topo.FACE_OVAL.index(127) + 1]
MEASURED = tuple(
    sorted({*JAW, *topo.RIGHT_BROW, *topo.LEFT_BROW, *topo.EYELIDS, *topo.LIPS, 168, 6, 197, 1, 2, 98, 327})
)
EYE_POINTS = ((33, 159, 133, 145), (362, 386, 263, 374))  # corners and the middles of the lids
PUBLIC_SIDE = 512  # of the crop that the public code takes before it halves it; it sets the middle half a pixel off
MIN_SIDE_PX = 16.0  # of a crop
MAX_SAMPLES = 8  # a pixel and direction, in a picture that is much larger than its crop


@dataclass(frozen=True)
class FaceCrop:
    """A square crop of a picture: where it lies and how many pixels it has."""

    matrix: Tensor  # (2, 3) float64: from the picture's pixels to the crop's
    size: int  # S

    def resized(self, size: int) -> FaceCrop:
        """The same square with another number of pixels."""
        ratio = size / self.size
        matrix = self.matrix * ratio
        matrix[:, 2] += (ratio - 1) / 2  # pixels' middles move, the square's edge stays
        return FaceCrop(matrix, size)

    @property
    def to_picture(self) -> Tensor:
        """(2, 3) float64: from the crop's pixels to the picture's."""
        turned = torch.linalg.inv(self.matrix[:, :2])
        return torch.cat([turned, -turned @ self.matrix[:, 2:]], dim=1)

    @property
    def side_px(self) -> float:
        """Side of the square in the picture's pixels."""
        return self.size / math.sqrt(abs(float(torch.linalg.det(self.matrix[:, :2]))))

    def bounds(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the picture's pixels that the square touches; right and bottom are beyond."""
        edge = self.size - 0.5
        corners = torch.tensor(
            [[-0.5, -0.5, 1], [edge, -0.5, 1], [edge, edge, 1], [-0.5, edge, 1]], dtype=torch.float64
        )
        at = corners @ self.to_picture.T
        low, high = at.amin(0).floor().long().tolist(), at.amax(0).ceil().long().tolist()
        left, top = max(0, low[0] - 1), max(0, low[1] - 1)
        return left, top, max(left, min(width, high[0] + 2)), max(top, min(height, high[1] + 2))

    def points_on_crop(self, points_px: Tensor) -> Tensor:
        """(..., 2) landmarks in pixels of the picture, as landmarks of the crop."""
        return (points_px[..., :2].double() - 0.5) @ self.matrix[:, :2].T + self.matrix[:, 2] + 0.5

    def take(self, picture: Tensor, device: torch.device | str | None = None) -> Tensor:
        """The crop of a picture, bilinear, each pixel the mean of 2 × 2 samples; black beyond the picture's border.

        Args:
            picture: (H, W, 3) uint8.
            device: of the result; None is the picture's.

        Returns:
            (1, 3, S, S) float32 0..1.
        """
        height, width = check_picture(picture, "the picture to crop a face from").shape[:2]
        left, top, right, bottom = self.bounds(width, height)
        device = picture.device if device is None else torch.device(device)
        if right - left < 1 or bottom - top < 1:
            return torch.zeros(1, 3, self.size, self.size, device=device)
        part = picture[top:bottom, left:right].to(device).permute(2, 0, 1)[None].float() / 255
        # a square of more than twice the public code's pixels gets more samples: it would alias
        halves = max(1, min(MAX_SAMPLES // 2, math.ceil(self.side_px / (4 * self.size))))
        fine = self.resized(2 * halves * self.size)
        samples = sampled(part, shifted(fine.to_picture, -left, -top), (fine.size, fine.size))
        return F.avg_pool2d(samples, 2 * halves)


def crop_of(points_px: Tensor, rule: CropRule, size: int) -> FaceCrop:
    """The square that a family frames a face with.

    Args:
        points_px: (478, 2 or more) landmarks of one face, pixels.
        rule: of the family.
        size: S.

    Raises:
        InputError: a face too small or too large to be one.

    Source: LivePortrait's public code (crop) for the upright rule: eyes and lips give the face's axes. face-vid2vid's
    (crop of videos) for the other.
    """
    check_shape(points_px[:, :2], "478 2", "the landmarks of a face to crop")
    check_finite(points_px[:, :2], "the landmarks of a face to crop")
    points = points_px[:, :2].double().cpu() - 0.5
    axes = _face_axes(points) if rule.upright else torch.eye(2, dtype=torch.float64)
    measured = (points[list(MEASURED)] if rule.upright else points) @ axes.T
    low, high = measured.amin(0), measured.amax(0)
    side = float((high - low).max()) * rule.scale
    if side < MIN_SIDE_PX:
        raise InputError(f"the face is {side / rule.scale:.1f} pixels large, too small to crop; give a larger picture.")
    middle = (low + high) / 2
    middle[1] += rule.shift_y * side
    turn = axes * (size / side)
    target = size / 2 + (size / (2 * PUBLIC_SIDE) - 0.5 if rule.upright else -0.5)
    return FaceCrop(torch.cat([turn, (target - middle * (size / side))[:, None]], dim=1), size)


class FilmCrops:
    """The crops of a film's frames: each of its own where the family turns them upright, else one for a whole scene.

    Args:
        track: landmarks of the film, T frames.
        rule: of the family.
        size: S.
        scenes: (T,) number of each frame's scene; None: there are no cuts.
    """

    def __init__(self, track: LandmarkTrack, rule: CropRule, size: int, scenes: Tensor | None = None) -> None:
        self._track, self._rule, self._size = track, rule, size
        self._scenes = torch.zeros(len(track), dtype=torch.int64) if scenes is None else scenes
        self._fixed: dict[int, FaceCrop] = {}

    def of(self, index: int) -> FaceCrop:
        """The crop of a frame whose landmarks are valid."""
        if self._rule.upright:
            return crop_of(self._points(index), self._rule, self._size)
        scene = int(self._scenes[index])
        if scene not in self._fixed:  # as its first frame with a face has it
            first = int(((self._scenes == scene) & self._track.valid).int().argmax())
            self._fixed[scene] = crop_of(self._points(first), self._rule, self._size)
        return self._fixed[scene]

    def _points(self, index: int) -> Tensor:
        size = torch.tensor([self._track.width, self._track.height], dtype=torch.float32)
        return self._track.points[index, :, :2] * size


def sampled(planes: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear samples of planes, 0 beyond their border.

    Args:
        planes: (B, C, H, W).
        matrix: (2, 3) from the result's pixels to the planes'.
        size: rows and columns of the result.

    Returns:
        (B, C, rows, columns).
    """
    grid = sampling_grid(matrix, size, planes.shape[-2:], planes.device)
    return F.grid_sample(planes, grid.expand(len(planes), -1, -1, -1), padding_mode="zeros", align_corners=False)


def sampling_grid(matrix: Tensor, size: tuple[int, int], source: tuple[int, int], device: torch.device) -> Tensor:
    """(1, rows, columns, 2) grid for `grid_sample` without aligned corners.

    Args:
        matrix: (2, 3) from the result's pixels to the source's.
        size: rows and columns of the result.
        source: rows and columns of what is sampled.
        device: of the grid.
    """
    scale = torch.tensor([2 / source[1], 2 / source[0]], dtype=torch.float64)
    turned = matrix.clone()
    turned[:, 2] += 0.5
    turned = turned * scale[:, None]
    turned[:, 2] -= 1
    (xx, xy, x0), (yx, yy, y0) = turned.tolist()
    columns = torch.arange(size[1], device=device, dtype=torch.float32)
    rows = torch.arange(size[0], device=device, dtype=torch.float32)[:, None]
    return torch.stack([columns * xx + (rows * xy + x0), columns * yx + (rows * yy + y0)], dim=-1)[None]


def shifted(matrix: Tensor, right: float, down: float) -> Tensor:
    """(2, 3) matrix whose results are moved."""
    moved = matrix.clone()
    moved[:, 2] += torch.tensor([right, down], dtype=matrix.dtype)
    return moved


def _face_axes(points: Tensor) -> Tensor:
    """(2, 2) rows: the face's own right-hand and downward directions in the picture, unit length."""
    eyes = torch.stack([points[list(eye)].mean(0) for eye in EYE_POINTS]).mean(0)
    down = points[list(topo.MOUTH_CORNERS)].mean(0) - eyes
    length = float(down.norm())
    down = down / length if length > 1e-3 else torch.tensor([0.0, 1.0], dtype=points.dtype)
    return torch.stack([torch.stack([down[1], -down[0]]), down])
