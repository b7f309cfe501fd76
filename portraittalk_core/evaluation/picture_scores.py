"""The pass over the pictures of a pair: PSNR, SSIM, flicker, what networks say, and the worst frames.

Shapes: T frames of the comparison.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import MissingDependency
from ..face.crop import resampled
from ..metrics.flicker import FlickerMeter
from ..metrics.packages import KORNIA
from ..metrics.psnr import psnr
from ..metrics.registry import METRICS, NEEDS
from ..metrics.ssim import WINDOW, ssim
from .clip import ScoredClip
from .identity_scores import TargetWatch
from .network_scores import PictureJudges
from .result import WorstFrame, shown
from .source import PictureSource, Steps, scaled_to

if TYPE_CHECKING:
    from .options import CompareOptions, Shift

CROP_PX = 256
APART_S = 0.5  # between worst frames, that they do not show one moment
BY_KORNIA = ("psnr", "ssim")
Measured = tuple[dict[str, float], dict[str, str]]  # values, and why others are missing
Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class PictureWatchers:
    """What looks at the pictures besides: networks, and who the faces are."""

    judges: PictureJudges  # of the pictures as PSNR sees them
    faces: TargetWatch  # of the whole pictures at their own size


class PictureScores:
    """What the pass over the pictures finds.

    Args:
        count: T.
    """

    def __init__(self, count: int) -> None:
        self.psnr, self.ssim = torch.full((2, count), torch.nan, dtype=torch.float64)
        self.num_identical = 0
        self.flicker = FlickerMeter()
        self.size = (0, 0)
        self.worst: list[WorstFrame] = []
        self._missing: dict[str, str] = {}

    def measure(self, k: int, generated: Tensor, target: Tensor) -> None:
        """Take in pair k of pictures, (H, W, 3) uint8 of one size."""
        self.size = target.shape[1], target.shape[0]
        identical = torch.equal(generated, target)
        self.num_identical += identical
        self.flicker.update(generated, target)
        if self._missing:
            return
        try:
            self.psnr[k] = psnr(generated, target)
            if min(self.size) >= WINDOW:
                self.ssim[k] = 1.0 if identical else ssim(generated, target)
        except MissingDependency:  # the other metrics do without it
            self._missing = {name: METRICS[name].missing(set(NEEDS) - {KORNIA}) for name in BY_KORNIA}

    def result(self) -> Measured:
        """Values, and why others are missing."""
        values, missing = {}, dict(self._missing)
        if "psnr" not in missing:
            finite = self.psnr[self.psnr.isfinite()]
            values["psnr"] = float(finite.mean()) if len(finite) else math.inf
        measured = self.ssim[~self.ssim.isnan()]
        if len(measured):
            values["ssim"] = float(measured.mean())
        else:
            missing.setdefault("ssim", f"the pictures are smaller than SSIM's window of {WINDOW}×{WINDOW} pixels")
        if self.flicker.still_share:
            values["flicker"] = self.flicker.result()
        else:
            missing["flicker"] = "nothing in the target stands still"
        return values, missing


def compare_pictures(
    clips: tuple[ScoredClip, ScoredClip],
    shift: Shift,
    box: Box | None,
    distance: Tensor,
    options: CompareOptions,
    watchers: PictureWatchers,
    progress: Steps,
) -> PictureScores:
    """Look at every pair of pictures once.

    Args:
        clips: generated and target.
        shift: which of their frames belong together, read at the generated rate.
        box: what both are cut to; None takes whole frames.
        distance: (T,) the mouth's, whose peaks are shown; NaN without a face in both.
        options: how many worst frames are kept.
        watchers: what looks on.
        progress: counts the pairs.
    """
    made, true = (clip.pictures for clip in clips)
    apart = APART_S * float(made.fps)
    found, worst = PictureScores(shift.count), _Worst(distance, options.num_worst, apart)
    pairs = zip(_from(made, made.fps, shift.made), _from(true, made.fps, shift.true), strict=False)
    for k, pair in enumerate(progress.over(itertools.islice(pairs, shift.count))):
        watchers.faces.update(*pair)
        a, b = scaled_to(pair[0], (true.height, true.width)), pair[1]
        if box is not None:
            a, b = (resampled(picture, box, (CROP_PX, CROP_PX)) for picture in (a, b))
        found.measure(k, a, b)
        watchers.judges.update(a, b)
        worst.offer(k, float(found.ssim[k]), a, b)
    found.worst = list(worst.frames(shift.made, float(made.fps)))
    return found


def _from(source: PictureSource, fps: object, start: int) -> Iterator[Tensor]:
    return itertools.islice(source.read(fps), start, None)


class _Worst:
    """Keeps the pictures of the worst moments: where the mouth is far off, and where SSIM is least.

    Args:
        distance: (T,) the mouth's.
        most: frames, of each reason.
        apart: frames between two of one reason.
    """

    def __init__(self, distance: Tensor, most: int, apart: float) -> None:
        self._distance, self._by_mouth = distance, set(_peaks(distance, most, apart))
        self._by_picture = _Least(most, apart)
        self._kept: dict[int, tuple[float, str, str]] = {}  # SSIM, generated, target

    def offer(self, k: int, similarity: float, generated: Tensor, target: Tensor) -> None:
        """The pictures of pair k, and their SSIM or NaN."""
        dropped = self._by_picture.offer(k, similarity)
        if k in self._by_mouth or self._by_picture.holds(k):
            self._kept[k] = similarity, shown(generated), shown(target)
        if dropped is not None and dropped not in self._by_mouth:
            self._kept.pop(dropped, None)

    def frames(self, start: int, fps: float) -> Iterator[WorstFrame]:
        """In the order of time, `start` frames into the generated video."""
        for k, (similarity, generated, target) in sorted(self._kept.items()):
            reasons = []
            if k in self._by_mouth:
                reasons.append(f"mouth off by {float(self._distance[k]):.1f} % of the eye distance")
            if self._by_picture.holds(k):
                reasons.append(f"SSIM {similarity:.3f}")
            yield WorstFrame((k + start) / fps, ", ".join(reasons), generated, target)


def _peaks(values: Tensor, most: int, apart: float) -> list[int]:
    """Numbers of the greatest values that lie at least so many frames apart; NaN counts as none."""
    chosen: list[int] = []
    for k in values.nan_to_num(-1).argsort(descending=True, stable=True).tolist():
        if len(chosen) >= most or not values[k] > 0:
            break
        if all(abs(k - other) >= apart for other in chosen):
            chosen.append(k)
    return chosen


class _Least:
    """The least values of a stream, at least so many frames apart."""

    def __init__(self, most: int, apart: float) -> None:
        self.most, self.apart = most, apart
        self._found: dict[int, float] = {}

    def holds(self, k: int) -> bool:
        return k in self._found

    def offer(self, k: int, value: float) -> int | None:
        """Take a value if it is among the least; the number of the one that had to leave for it, if any."""
        if math.isnan(value) or value >= 1 or not self.most:
            return None
        near = [other for other in self._found if k - other < self.apart]
        rival = near[0] if near else max(self._found, key=self._found.__getitem__, default=None)
        if not near and len(self._found) < self.most:
            self._found[k] = value
            return None
        if rival is None or value >= self._found[rival]:
            return None
        del self._found[rival]
        self._found[k] = value
        return rival
