"""Opening of a rendered mouth: what was asked, and what the face mesh measures on the rendered frames.

An opening is the gap between the inner lips over the distance of the mouth's corners.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ...checks import check_finite, check_shape
from ...errors import InputError
from ...face.mesh.backends import MeshBackend
from ...face.mesh.tracking import Follower
from ...motion.keypoint_curves import curves_of
from ...motion.keypoint_regions import ExpressionBasis
from ...threads import one_torch_thread
from ...types import KeypointTrack, LandmarkTrack, as_fps
from .bridges import lip_ratio


@dataclass(frozen=True)
class LipOpening:
    """Asked and measured opening of T frames."""

    target: Tensor  # (T,) float32
    measured: Tensor  # (T,) float32; NaN where no face was found
    fps: Fraction

    def __post_init__(self) -> None:
        check_finite(check_shape(self.target, "T", "the asked opening"), "the asked opening")
        check_shape(self.measured, f"{len(self.target)}", "the measured opening")
        object.__setattr__(self, "fps", as_fps(self.fps))

    def __len__(self) -> int:
        return len(self.target)

    @property
    def detected(self) -> Tensor:
        """(T,) bool: whether there is a measured value."""
        return ~self.measured.isnan()

    @property
    def correlation(self) -> float:
        """Pearson's r of asked and measured; NaN where one of them does not change."""
        target, measured = (part[self.detected].double() for part in (self.target, self.measured))
        if len(target) < 2 or not target.std() > 0 or not measured.std() > 0:
            return float("nan")
        return float(torch.corrcoef(torch.stack([target, measured]))[0, 1])

    @property
    def line(self) -> tuple[float, float]:
        """Slope and offset of the measured opening over the asked one, by least squares; NaN where nothing changes."""
        target, measured = (part[self.detected].double() for part in (self.target, self.measured))
        spread = (target - target.mean()).square().sum() if len(target) else torch.zeros(())
        if not spread > 0:
            return float("nan"), float("nan")
        slope = float(((target - target.mean()) * measured).sum() / spread)
        return slope, float(measured.mean()) - slope * float(target.mean())

    def summary(self) -> dict[str, float | int | None]:
        """Numbers for a report: means, mean distance, correlation, slope, offset and frames without a face."""
        target, measured = self.target[self.detected], self.measured[self.detected]
        slope, offset = self.line
        numbers = {
            "mean_asked": float(target.mean()),
            "mean_measured": float(measured.mean()),
            "mean_distance": float((target - measured).abs().mean()),
            "correlation": self.correlation,
            "slope": slope,
            "offset": offset,
        }
        rounded = {name: None if number != number else round(number, 4) for name, number in numbers.items()}  # noqa: PLR0124 - NaN
        return rounded | {"num_frames": len(self), "num_faceless": int((~self.detected).sum())}


class OpeningMeter:
    """Measures the mouth in picture after picture, which may be on their way to a video file.

    Args:
        mesh: an open back end.
        fps: frames per second of the pictures.
    """

    def __init__(self, mesh: MeshBackend, fps: Fraction) -> None:
        self._follower, self.fps = Follower(mesh, 0, "size"), as_fps(fps)
        self._found: list[float] = []

    def see(self, picture: Tensor) -> None:
        """Measure the next picture, (H, W, 3) uint8."""
        with one_torch_thread():
            face = self._follower.see(picture)
        self._found.append(float("nan") if face is None else float(lip_ratio(face[None])[0]))

    def watching(self, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pictures, each measured before it goes on."""
        for picture in pictures:
            self.see(picture)
            yield picture

    @property
    def measured(self) -> Tensor:
        """(T,) opening of every picture so far; NaN where no face was found."""
        return torch.tensor(self._found)

    def against(self, target: Tensor) -> LipOpening:
        """Asked (T or more,) and measured opening.

        Raises:
            InputError: fewer are asked than pictures were seen, or none was seen.
        """
        count = len(self._found)
        if not 0 < count <= len(target):
            raise InputError(f"{count} pictures were measured, but the opening of {len(target)} frames was asked for.")
        return LipOpening(target[:count].float(), self.measured, self.fps)


def target_opening(motion: LandmarkTrack | KeypointTrack, basis: ExpressionBasis | None = None) -> Tensor:
    """(T,) opening that a motion asks for.

    Of keypoints it counts from their most closed frames. For a layout whose directions are unknown and without a
    `basis`, it is the strongest movement in half crops: then only its correlation with what is measured says anything.
    """
    if isinstance(motion, LandmarkTrack):
        return lip_ratio(motion.points_px)
    return curves_of(motion, basis).mouth
