"""How much, how fast and how often a head moves."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..face.curve_statistics import HEAD_SIGMA_S, gaussian_smoothed, swing_frequency
from ..face.geometry import head_pose
from ..types import LandmarkTrack

LEAST_FRAMES = 3


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
    if int(track.valid.sum()) < LEAST_FRAMES:
        raise InputError(f"head motion needs a face in {LEAST_FRAMES} frames, {int(track.valid.sum())} show one.")
    rate, valid = float(track.fps), track.valid
    angles = gaussian_smoothed(head_pose(track).angles_deg, HEAD_SIGMA_S * rate)
    spread = angles[valid].std(0, correction=0)
    steps = (angles[1:] - angles[:-1]).norm(dim=1)[valid[1:] & valid[:-1]]
    return HeadMotion(
        tuple(spread.tolist()),
        float(spread.square().mean().sqrt()),
        rate * float(steps.mean()) if len(steps) else 0.0,
        rate * float(swing_frequency(angles[valid])),
    )
