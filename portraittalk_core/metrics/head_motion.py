"""Statistics of head motion: deviation, speed and frequency of its angles."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import InputError
from ..face.curve_statistics import HEAD_SIGMA_S, gaussian_smoothed, swing_frequency
from ..face.geometry import head_pose
from ..types import LandmarkTrack
from .meter import FaceCurves

MIN_FRAMES = 3


@dataclass(frozen=True)
class HeadMotion:
    """Statistics of the head's angles."""

    std_deg: tuple[float, float, float]  # standard deviations of pitch, yaw and roll
    overall_std_deg: float  # their root mean square
    mean_speed_deg_s: float  # length of the angles' change per second
    beat_hz: float  # frequency of the swing; 0 for a head that keeps still


def head_motion(track: LandmarkTrack) -> HeadMotion:
    """Statistics of pitch, yaw and roll over the frames with a face.

    Args:
        track: T frames.

    Raises:
        InputError: a face in fewer than three frames.
    """
    return _statistics(head_pose(track).angles_deg, track.valid, track.fps)


def head_statistics(curves: FaceCurves) -> dict[str, float]:
    """The registry's three numbers of head motion; angles are held over frames without a face.

    Raises:
        InputError: a face in fewer than three frames.
    """
    detected = curves.valid.nonzero()[:, 0]
    last = torch.searchsorted(detected, torch.arange(len(curves.valid)), right=True) - 1
    angles_deg = curves.angles_deg[detected[last.clamp(min=0)]] if len(detected) else curves.angles_deg
    measured = _statistics(angles_deg, curves.valid, curves.fps)
    return {
        "head_std": measured.overall_std_deg,
        "head_speed": measured.mean_speed_deg_s,
        "head_beat": measured.beat_hz,
    }


def _statistics(angles_deg: Tensor, valid: Tensor, fps: Fraction) -> HeadMotion:
    if int(valid.sum()) < MIN_FRAMES:
        raise InputError(f"head motion needs a face in {MIN_FRAMES} frames, {int(valid.sum())} show one.")
    rate = float(fps)
    angles = gaussian_smoothed(angles_deg, HEAD_SIGMA_S * rate)
    deviation = angles[valid].std(0, correction=0)
    steps = (angles[1:] - angles[:-1]).norm(dim=1)[valid[1:] & valid[:-1]]
    return HeadMotion(
        tuple(deviation.tolist()),
        float(deviation.square().mean().sqrt()),
        rate * float(steps.mean()) if len(steps) else 0.0,
        rate * float(swing_frequency(angles[valid])),
    )
