"""Statistics of a face's curves over time: Gaussian smoothing, blinks, how often a head swings.

Shapes: T frames.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

HEAD_SIGMA_S = 0.12  # of the Gaussian over head angles, so that a detector's jitter does not count as motion
CLOSED_SHARE = 0.6  # of a face's own open eyes: lids below this are closed
MIN_BLINK_S, MAX_BLINK_S = 0.06, 0.6  # shorter is jitter, longer are closed eyes


def gaussian_smoothed(curve: Tensor, sigma: float) -> Tensor:
    """Gaussian low-pass of a curve (T, …), float32; the values at both ends are held.

    Args:
        curve: any unit.
        sigma: standard deviation of the kernel, frames.
    """
    reach = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    flat = curve.float().reshape(len(curve), -1).T[:, None]
    padded = F.pad(flat, (reach, reach), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T.reshape(curve.shape)


def swing_frequency(angles: Tensor) -> Tensor:
    """Swings per frame of angles (T, 3): RMS speed over standard deviation, over 2π; exact for a sine."""
    speed = (angles[1:] - angles[:-1]).square().mean().sqrt()
    return speed / angles.std(0, correction=0).square().mean().sqrt().clamp(min=1e-3) / (2 * math.pi)


def blink_durations_s(eye_opening: Tensor, valid: Tensor, fps: Fraction) -> Tensor:
    """(K,) duration of each blink, seconds.

    Args:
        eye_opening: (T,) of `geometry.eye_open`.
        valid: (T,) bool, some of them set.
        fps: frames per second.
    """
    open_eyes = torch.quantile(eye_opening[valid], 0.8)
    closed = ((eye_opening < CLOSED_SHARE * open_eyes) & valid).int()
    edges = torch.diff(F.pad(closed, (1, 1)))
    durations = (torch.where(edges == -1)[0] - torch.where(edges == 1)[0]) / float(fps)
    return durations[(durations >= MIN_BLINK_S) & (durations <= MAX_BLINK_S)]
