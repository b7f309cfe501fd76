"""Mouth-opening correlation: whether the generated mouth opens when the true one does."""

from __future__ import annotations

from ..errors import InputError
from ..face.geometry import mouth_open
from ..types import LandmarkTrack
from .lip_sync import MAX_LAG, LipCorrelation, lip_correlation


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
