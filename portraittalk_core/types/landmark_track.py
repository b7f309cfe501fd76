"""The first hub record: one face's landmarks over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_finite, check_range, check_shape, parse_whole
from ..errors import InputError, ShapeError
from ..frame_rate import as_fps
from ..memory_map import release_memory
from .record import Record, check_record_kind

NUM_LANDMARKS = 478  # MediaPipe face mesh with refined irises
MAX_SIDE = 65_536  # pixels of a track's picture
BLOCK = 1024  # frames that are checked at once
MAX_REACH = 1000.0  # of a landmark, in pictures: no face lies further outside


@dataclass(frozen=True)
class LandmarkTrack:
    """One face's landmarks over time, on a picture of a given size.

    MediaPipe order; x and y normalised to 0..1 of the picture (points may lie outside it), z on x's scale.
    """

    kind: ClassVar[str] = "LandmarkTrack"
    points: Tensor  # (T, 478, 3) float32
    valid: Tensor  # (T,) bool: False where no face was seen and the points are held or interpolated
    fps: Fraction
    width: int  # pixels
    height: int  # pixels
    shoulders: Tensor | None = None  # (T,) float32, how far they rise, inter-ocular distances; None: nothing is known

    def __post_init__(self) -> None:
        check_shape(self.points, f"T {NUM_LANDMARKS} 3", "landmark points")
        check_shape(self.valid, "T", "landmark valid flags")
        if self.points.dtype != torch.float32 or self.valid.dtype != torch.bool:
            raise ShapeError(f"landmarks must be float32 with bool flags, not {self.points.dtype}, {self.valid.dtype}.")
        if len(self.points) == 0 or len(self.points) != len(self.valid):
            raise ShapeError(f"{len(self.points)} landmark frames and {len(self.valid)} valid flags: both must be ≥ 1.")
        for part in self.points.split(BLOCK):
            check_finite(part, "landmark points")
            if (reach := float(part.abs().max())) > MAX_REACH:
                raise InputError(
                    f"landmark points must lie within {MAX_REACH:g} pictures of the origin, not at {reach:g}."
                )
        if self.shoulders is not None:
            check_finite(check_shape(self.shoulders, f"{len(self.points)}", "the track's shoulders"), "the shoulders")
        if len(self.points) > BLOCK:
            release_memory()
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_range(self.width, 1, MAX_SIDE, "the track's width")
        check_range(self.height, 1, MAX_SIDE, "the track's height")

    def __len__(self) -> int:
        return len(self.points)

    @property
    def seconds(self) -> float:
        return float(len(self) / self.fps)

    @property
    def points_px(self) -> Tensor:
        """(T, 478, 3) in pixels, z on x's scale; a copy of the whole track, see `px_of`."""
        return self.px_of(slice(None))

    def px_of(self, frames: int | slice | Tensor) -> Tensor:
        """(478, 3) of one frame, or (N, 478, 3) of some, in pixels, z on x's scale."""
        return self.points[frames] * torch.tensor([self.width, self.height, self.width], dtype=torch.float32)

    def slice(self, start: int, stop: int) -> LandmarkTrack:
        """Frames start..stop-1 as a track of their own."""
        return self.at(slice(start, stop))

    def at(self, frames: slice | Tensor) -> LandmarkTrack:
        """Some frames, or all in another order, as a track of their own."""
        shoulders = None if self.shoulders is None else self.shoulders[frames]
        return replace(self, points=self.points[frames], valid=self.valid[frames], shoulders=shoulders)

    @staticmethod
    def from_px(
        points_px: Tensor,
        width: int,
        height: int,
        fps: Fraction,
        valid: Tensor | None = None,
        shoulders: Tensor | None = None,
    ) -> LandmarkTrack:
        """A track from (T, 478, 3) pixel landmarks; all frames are valid unless `valid` (T,) says otherwise."""
        scale = torch.tensor([width, height, width], dtype=torch.float32)
        flags = torch.ones(len(points_px), dtype=torch.bool) if valid is None else valid
        return LandmarkTrack((points_px.float() / scale), flags, fps, width, height, shoulders)

    def to_record(self) -> Record:
        """Tensors and metadata of a track file."""
        metadata = {
            "kind": self.kind,
            "fps": f"{self.fps.numerator}/{self.fps.denominator}",
            "width": str(self.width),
            "height": str(self.height),
        }
        tensors = {"points": self.points, "valid": self.valid}
        return tensors if self.shoulders is None else tensors | {"shoulders": self.shoulders}, metadata

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> LandmarkTrack:
        """The track of a file's tensors and metadata.

        Raises:
            InputError: another kind of record, or a part is missing.
        """
        check_record_kind(metadata, cls.kind)
        missing = [k for k in ("points", "valid") if k not in tensors]
        missing += [k for k in ("fps", "width", "height") if k not in metadata]
        if missing:
            raise InputError(f"a landmark track needs {', '.join(missing)}, which this file lacks.")
        width, height = (
            parse_whole(metadata[side], f"the track's {side}", 1, MAX_SIDE) for side in ("width", "height")
        )
        fps = as_fps(metadata["fps"])
        return cls(tensors["points"], tensors["valid"], fps, width, height, tensors.get("shoulders"))


def joined_shoulders(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The shoulders of consecutive tracks as those of one; None if one of them knows nothing."""
    return None if any(part is None for part in parts) else torch.cat(list(parts))
