"""Mouth-opening correlation: Pearson correlation of the generated and the true mouth's opening."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..face.geometry import mouth_open
from ..types import LandmarkTrack
from .lip_sync import MAX_LAG, MAX_LAG_S, MIN_FRAMES, LipCorrelation, lip_correlation
from .meter import Meter, MetricContext


def mouth_correlation(generated: LandmarkTrack, target: LandmarkTrack, max_lag: int = MAX_LAG) -> LipCorrelation:
    """Pearson correlation of the inner-lip gaps of two tracks, frame by frame.

    Args:
        generated: T frames.
        target: T frames at the same rate.
        max_lag: frames, both ways, for the best lag beside zero lag.

    Returns:
        −1..1; 1 for the same opening up to scale and offset; symmetric at zero lag.

    Raises:
        InputError: different lengths or rates, or fewer than 10 frames with a face in both.
    """
    if len(generated) != len(target) or generated.fps != target.fps:
        raise InputError(
            f"tracks of {len(generated)} frames at {float(generated.fps):g} fps and {len(target)} at "
            f"{float(target.fps):g} cannot be compared frame by frame; cut and resample them first."
        )
    return lip_correlation(mouth_open(generated), mouth_open(target), generated.valid & target.valid, max_lag)


class MouthCorrelation(Meter):
    """Correlation of the mouth openings of a pair, and the lag at which it is greatest."""

    def __init__(self, context: MetricContext) -> None:
        self._fps = float(context.fps)
        self._openings: list[Tensor] = []  # (2, K) generated and target, NaN without a face

    def update(self, generated: LandmarkTrack, target: LandmarkTrack) -> None:
        """Add the next frames of both."""
        self._openings.append(torch.stack([_opening(generated), _opening(target)]))

    def result(self) -> dict[str, float]:
        """The correlation at zero lag, and the best lag within ±0.2 s in milliseconds, + where the generated is late.

        Raises:
            InputError: fewer than 10 frames show the face in both.
        """
        generated, target = torch.cat(self._openings, 1) if self._openings else torch.zeros(2, 0)
        both = ~(generated.isnan() | target.isnan())
        if int(both.sum()) < MIN_FRAMES:
            raise InputError(f"fewer than {MIN_FRAMES} frames show the face in both")
        max_lag = min(max(1, round(MAX_LAG_S * self._fps)), len(both))
        correlation = lip_correlation(generated.nan_to_num(0), target, both, max_lag)
        return {"mouth_correlation": correlation.r_zero, "mouth_lag": -correlation.lag / self._fps * 1000}


def _opening(track: LandmarkTrack) -> Tensor:
    return torch.where(track.valid, mouth_open(track), torch.nan)
