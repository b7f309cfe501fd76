"""Crops of faces as lip models frame them: an upright box around landmarks, in whole pixels, resized to a square.

Shapes: T frames, S side of the networks' crops, H and W of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ...media.fixed_point import resized
from ...memory_map import release_memory
from ...motion.smoothing import gaussian_smoothing
from ...types import LandmarkTrack, check_picture
from ..implicit.crop import FaceCrop
from .contract import LipCropRule

SMALLEST_PX = 8  # sides of a box; a face in a smaller one is not painted
SMOOTHING_S = 0.12  # standard deviation of a smooth box's path
BLOCK = 256  # frames whose landmarks are looked at at once
ALIASES = (
    2  # a box of more than so many times the crop's pixels is averaged; smaller ones are interpolated, as cv2 does
)


@dataclass(frozen=True)
class LipBox:
    """A face's box in a picture: whole pixels, right and bottom beyond it."""

    left: int
    top: int
    right: int
    bottom: int
    fixed_point: bool = False  # see `LipCropRule`

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    def crop(self, size: int) -> BoxCrop:
        """The place of a crop of S × S pixels; its matrix scales each axis on its own."""
        x, y = (size / side for side in self.size_px)
        moved = [x * (0.5 - self.left) - 0.5, y * (0.5 - self.top) - 0.5]
        return BoxCrop(torch.tensor([[x, 0.0, moved[0]], [0.0, y, moved[1]]], dtype=torch.float64), size, self)

    def take(self, picture: Tensor, size: int) -> Tensor:
        """(3, S, S) float32 0..1 crop of a picture (H, W, 3) uint8, bilinear; averaged where it shrinks a lot.

        Up to `ALIASES` times its size this is OpenCV's bilinear resize, which the public code trains with.
        """
        check_picture(picture, "the picture to crop a face from")
        pixels = picture[self.top : self.bottom, self.left : self.right]
        if self.fixed_point:
            return resized(pixels, size, size).permute(2, 0, 1).float() / 255
        part = pixels.permute(2, 0, 1)[None].float() / 255
        shrinks = max(part.shape[-2:]) > ALIASES * size
        crop = F.interpolate(part, (size, size), mode="bilinear", align_corners=False, antialias=shrinks)
        return crop[0].clamp(0, 1)

    def points01(self, points_px: Tensor) -> Tensor:
        """(..., N, 2) float32 landmarks in pixels of the picture, 0..1 of the box."""
        corner, size = (torch.tensor(pair, dtype=torch.float64) for pair in ((self.left, self.top), self.size_px))
        return ((points_px[..., :2].double() - corner) / size).float()


@dataclass(frozen=True)
class BoxCrop(FaceCrop):
    """The place of a box's crop, for pasting."""

    box: LipBox

    def take(self, picture: Tensor, device: torch.device | str | None = None) -> Tensor:
        """(1, 3, S, S) float32 0..1: the crop as the networks see it."""
        return self.box.take(picture, self.size)[None].to(picture.device if device is None else device)


def box_of(points_px: Tensor, rule: LipCropRule, width: int, height: int, pad_px: float | None = None) -> LipBox:
    """The box of one face.

    Args:
        points_px: (478, 2 or 3) landmarks, pixels.
        rule: of the family.
        width: of the picture.
        height: of the picture.
        pad_px: instead of the rule's.
    """
    size = torch.tensor([width, height], dtype=torch.float64)
    edges = _edges(points_px[None, :, :2].double() / size, size, rule, pad_px)
    return LipBox(*_whole(edges, width, height)[0].tolist(), rule.fixed_point)


class LipBoxes:
    """The boxes of a track's frames.

    Args:
        track: landmarks on the pictures, T frames.
        rule: of the family.
        pad_px: instead of the rule's; None takes that.
        scenes: (T,) number of each frame's scene, over whose ends a smooth box does not look; None: there are no cuts.
    """

    def __init__(
        self, track: LandmarkTrack, rule: LipCropRule, pad_px: float | None = None, scenes: Tensor | None = None
    ) -> None:
        self._track, self.rule = track, rule
        self._size = torch.tensor([track.width, track.height], dtype=torch.float64)
        blocks = []
        for points in track.points.split(BLOCK):
            blocks.append(_edges(points[..., :2].double(), self._size, rule, pad_px))
            release_memory()
        edges = torch.cat(blocks)
        if rule.smooth:
            edges = _smoothed(edges, float(track.fps), scenes)
        self._boxes = _whole(edges, track.width, track.height)

    def __len__(self) -> int:
        return len(self._boxes)

    def __getitem__(self, index: int) -> LipBox:
        return LipBox(*self._boxes[index].tolist(), self.rule.fixed_point)

    @cached_property
    def usable(self) -> Tensor:
        """(T,) bool: boxes that hold enough of a face to be painted."""
        return (self._boxes[:, 2:] - self._boxes[:, :2]).amin(1) >= SMALLEST_PX

    def points01(self, index: int, points: Tensor) -> Tensor:
        """(..., N, 2) landmarks, normalised to the picture, as 0..1 of a frame's box."""
        return self[index].points01(points[..., :2].double() * self._size)


def _edges(points: Tensor, size: Tensor, rule: LipCropRule, pad_px: float | None) -> Tensor:
    """(T, 4) float64 left, top, right, bottom in pixels around (T, 478, 2) landmarks, normalised to a picture's (2,).

    In the public code's order: whether a box is a pixel larger may hang on the last bit.
    """
    own = points[:, list(rule.points)]
    low, high = own.amin(1), own.amax(1)
    longer_px = ((high - low) * size).amax(1, keepdim=True)
    pad = (rule.pad_px + rule.pad_share * longer_px if pad_px is None else float(pad_px)) / size
    low, high = (low - pad) * size, (high + pad) * size
    high[:, 1] += rule.below_share * longer_px[:, 0]
    if rule.middle is not None:
        low[:, 1] = 2 * points[:, rule.middle, 1] * size[1] - high[:, 1]
    high[:, 1] += rule.below_px
    if rule.square:
        middle, half = (low + high) / 2, (high - low).amax(1, keepdim=True) / 2
        low, high = middle - half, middle + half
    return torch.cat([low, high], 1)


def _smoothed(edges: Tensor, fps: float, scenes: Tensor | None) -> Tensor:
    numbers = torch.zeros(len(edges), dtype=torch.int64) if scenes is None else scenes
    out = edges.clone()
    for scene in numbers.unique().tolist():
        frames = numbers == scene
        columns = [gaussian_smoothing(column, SMOOTHING_S * fps) for column in edges[frames].float().unbind(1)]
        out[frames] = torch.stack(columns, 1).double()
    return out


def _whole(edges: Tensor, width: int, height: int) -> Tensor:
    """(T, 4) int64 boxes within the picture, cut to whole pixels as the public code does."""
    limit = torch.tensor([width, height, width, height], dtype=edges.dtype)
    return torch.minimum(edges.clamp(min=0), limit).long()
