"""Stable square crop of one face in pictures of any size, and the mapping back onto the picture.

Positions are continuous: the first pixel reaches from 0 to 1 and has its middle at 0.5.
Shapes: T frames, S the crop's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import check_shape
from ..errors import InputError
from ..options import check_options, option
from ..types import LandmarkTrack, check_picture
from . import topology as topo

CROP_PX = 512  # what SD1.5 was trained on
MARGIN = 0.4
BOXES = ("auto", "fixed", "follow")
MAX_FIXED_EXTENT = 1.3  # auto: a face whose whole path is at most so many times its own size gets a fixed box
LIFT = 0.12  # of the face's size: the mesh ends at the hairline, so the box reaches higher above it
SMOOTHING_S = 0.4  # sigma of the low-pass on a following box's middle
CUT = 0.5  # of the face's size: one that is so much further on in the next frame is in another shot
QUANTILE = 0.99  # share of the frames that decides the box's size, against single stray ones
MIN_FACE_PX, MAX_BOX = 8.0, 8.0  # the box's limit is a multiple of the picture's larger side
SHAPE_TOLERANCE = 0.01
REACH_PX = 3  # of the resampling kernel beyond the box, at scale 1


@dataclass(frozen=True)
class CropBox:
    """A square in a picture; it may reach over the border."""

    left: float  # pixels
    top: float  # pixels
    side: float  # pixels


@dataclass(frozen=True)
class CropOptions:
    """Options of a face crop."""

    margin: float = option(
        MARGIN,
        0,
        2,
        "Room on every side, as a share of the face's size. The same in Crop Face and Paste Face.",
        step=0.05,
    )  # of the face's larger side
    box: str = option(
        "auto",
        help="One square for all frames, or one that follows the head; auto follows only a head that moves "
        "far. One portrait always has a fixed one. The same in Crop Face and Paste Face.",
        choices=BOXES, advanced=True,
    )  # fmt: skip
    size: int = option(
        CROP_PX, 16, 4096, "Width and height of the crops in pixels; SD1.5 paints best at 512.", step=8, advanced=True
    )

    def __post_init__(self) -> None:
        check_options(self, **{name: f"the {name} of the face crop" for name in ("margin", "box", "size")})


@dataclass(frozen=True)
class FaceCrop:
    """Crop box of every frame, of constant size."""

    track: LandmarkTrack  # on the picture
    corners: Tensor  # (T, 2) float64: left and top, pixels
    side: float  # pixels
    options: CropOptions = field(default_factory=CropOptions)

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def is_fixed(self) -> bool:
        """Whether the box is the same in every frame."""
        return bool((self.corners == self.corners[0]).all())

    def box(self, index: int) -> CropBox:
        """The box of a frame; a plan of one frame serves them all.

        Raises:
            InputError: no such frame.
        """
        if len(self) > 1 and not 0 <= index < len(self):
            raise InputError(
                f"frame {index} is beyond the {len(self)} frames of the landmarks; give landmarks for all."
            )
        left, top = self.corners[index if len(self) > 1 else 0].tolist()
        return CropBox(left, top, self.side)

    def check_fits(self, picture: Tensor, index: int = 0) -> None:
        """Check that a picture (H, W, 3) uint8 has the size that the crop was planned for.

        Raises:
            InputError: with both sizes.
        """
        check_picture(picture, "the picture of a face crop")
        if tuple(picture.shape[:2]) != (self.track.height, self.track.width):
            raise InputError(
                f"frame {index} is {picture.shape[1]}×{picture.shape[0]} pixels, the crop was planned for "
                f"{self.track.width}×{self.track.height}; give frames of one size."
            )

    def crop(self, picture: Tensor, index: int = 0, size: int | None = None) -> Tensor:
        """Face crop of one frame.

        Args:
            picture: (H, W, 3) uint8, of the track's size.
            index: number of the frame.
            size: side of the crop; None is the plan's own.

        Returns:
            (S, S, 3) uint8; beyond the picture, its border pixels repeated.

        Raises:
            InputError: a picture of another size, or no such frame.
        """
        self.check_fits(picture, index)
        size = self.options.size if size is None else size
        box = self.box(index)
        return resampled(picture, (box.left, box.top, box.left + box.side, box.top + box.side), (size, size))

    def track_on_crop(self) -> LandmarkTrack:
        """The landmarks in the crop's own coordinates, on pictures of S×S."""
        points = self.track.points.double() * self._picture()
        points[..., :2] -= self.corners[:, None]
        size = self.options.size
        return replace(self.track, points=(points / self.side).float(), width=size, height=size)

    def _picture(self) -> Tensor:
        return torch.tensor([self.track.width, self.track.height, self.track.width], dtype=torch.float64)


def plan_face_crop(track: LandmarkTrack, options: CropOptions | None = None) -> FaceCrop:
    """Plan a square crop of constant size around the face, with a smoothed path over the frames.

    Args:
        track: T frames.
        options: margin, size, and whether the box may move.

    Raises:
        InputError: a face too small to crop, or landmarks far outside of the picture.
    """
    options = options or CropOptions()
    oval = track.points_px[:, list(topo.FACE_OVAL), :2].double()
    low, high = oval.amin(1), oval.amax(1)
    face = float(torch.quantile((high - low).amax(1), QUANTILE))
    larger = max(track.width, track.height)
    whole_low, whole_high = torch.quantile(low, 1 - QUANTILE, 0), torch.quantile(high, QUANTILE, 0)
    extent = max(face, float((whole_high - whole_low).max()))
    fixed = options.box == "fixed" or (options.box == "auto" and extent <= MAX_FIXED_EXTENT * face)
    room = 2 * options.margin * face
    side = (extent if fixed else face) + room
    if face < MIN_FACE_PX or side > MAX_BOX * larger:
        raise InputError(
            f"the face is {face:.0f} pixels large and moves over {extent:.0f} pixels of a picture of {track.width}×"
            f"{track.height}: it cannot be cropped. Use a larger picture, or check the landmarks."
        )
    lift = torch.tensor([0.0, LIFT * min(1.0, options.margin / MARGIN) * face], dtype=torch.float64)
    if fixed:
        middle = ((whole_low + whole_high) / 2).expand(len(track), 2)
    else:
        middle = _followed((low + high) / 2, face, float(track.fps), room)
    return FaceCrop(track, middle - lift - side / 2, side, options)


def fit_track_to(track: LandmarkTrack, width: int, height: int) -> LandmarkTrack:
    """The track on the same picture at another size.

    Raises:
        InputError: the picture has another aspect ratio (by more than 1 %).
    """
    if abs(track.width * height - track.height * width) > SHAPE_TOLERANCE * track.height * width:
        raise InputError(
            f"the landmarks were made on a picture of {track.width}×{track.height}, this one is {width}×{height}: "
            "their shapes differ. Give the picture or video that the landmarks belong to."
        )
    return replace(track, width=width, height=height)


def resampled(picture: Tensor, bounds: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """Bicubic resampling of a part of a picture with sub-pixel bounds, antialiased where it shrinks.

    Args:
        picture: (H, W, 3) uint8, or (H, W) float.
        bounds: left, top, right, bottom in pixels; beyond the border its pixels repeat.
        size: width and height of the result.

    Returns:
        (height, width, 3) uint8, or (height, width) float; cubic, as Pillow does it.
    """
    if picture.ndim == 2:
        check_shape(picture, "H W", "the map to resample")
    columns, left = _needed(bounds[0], bounds[2], size[0], picture.shape[1])
    rows, top = _needed(bounds[1], bounds[3], size[1], picture.shape[0])
    part = np.ascontiguousarray(picture[rows][:, columns].numpy())
    box = (bounds[0] - left, bounds[1] - top, bounds[2] - left, bounds[3] - top)
    return torch.from_numpy(np.array(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC, box)))


def _needed(low: float, high: float, length: int, border: int) -> tuple[Tensor, int]:
    """Indices of the pixels that an interval needs, clamped to the border, and the position of the first."""
    reach = REACH_PX * math.ceil(max(1.0, (high - low) / length))
    first, last = math.floor(low) - reach, math.ceil(high) + reach
    return torch.arange(first, last).clamp(0, border - 1), first


def _followed(middle: Tensor, face: float, fps: float, room: float) -> Tensor:
    """(T, 2) low-passed centre of the face, its lag limited so that the face stays in the box."""
    # across a cut there is nothing to follow
    cuts = ((middle[1:] - middle[:-1]).norm(dim=1) > CUT * face).nonzero()[:, 0] + 1
    shots = torch.tensor_split(middle, cuts.tolist())
    slack, sigma = 0.35 * room, SMOOTHING_S * fps
    followed = []
    for shot in shots:
        smoothed = _low_pass(shot, sigma)
        lag = shot - smoothed
        # only a fast move exceeds the slack; what is added is smoothed too, so that the box does not jerk
        followed.append(smoothed + _low_pass(lag - lag.clamp(-slack, slack), sigma / 8))
    return torch.cat(followed)


def _low_pass(curve: Tensor, sigma: float) -> Tensor:
    """(T, 2) zero-phase Gaussian low-pass, `sigma` in frames; the ends are padded by repetition."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    padded = torch.cat([curve[:1].expand(reach, -1), curve, curve[-1:].expand(reach, -1)])
    return (padded.unfold(0, 2 * reach + 1, 1) * (kernel / kernel.sum())).sum(-1)
