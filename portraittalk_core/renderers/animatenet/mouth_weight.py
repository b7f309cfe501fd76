"""Spatial weight maps that amplify a ControlNet's residuals around the mouth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...checks import check_range
from ...face import topology as topo
from ...types import LandmarkTrack

Maps = Callable[[Sequence[int], int, int], Tensor]  # frame numbers, h, w → (B, 1, h, w) factors
REACH = (0.7, 0.45)  # of the lips' width: half axes of the oval, so that it holds an open mouth and some skin
EDGE = 0.5  # of the oval's radius, over which the factor falls to 1
MAX_WEIGHT = 4.0


def mouth_maps(track: LandmarkTrack, weight: float) -> Maps | None:
    """Weight maps of a track, raised around the mouth.

    Args:
        track: on the picture that is painted.
        weight: factor at the mouth, 0..4; it fades to 1 around it.

    Returns:
        maps(frame numbers, h, w) → (B, 1, h, w), for a map of any resolution; None where the weight is 1.

    Raises:
        InputError: a weight out of range.
    """
    check_range(weight, 0, MAX_WEIGHT, "the mouth weight")
    if weight == 1:
        return None

    def maps(frames: Sequence[int], height: int, width: int) -> Tensor:
        rows = [min(frame, len(track) - 1) for frame in frames]
        # in units of the picture's width, so that the oval keeps its shape
        tall = track.height / track.width
        lips = track.points[rows][:, list(topo.LIPS), :2] * torch.tensor([1.0, tall])
        middle, span = (lips.amin(1) + lips.amax(1)) / 2, (lips[..., 0].amax(1) - lips[..., 0].amin(1)).clamp(min=1e-3)
        x = (torch.arange(width) + 0.5) / width
        y = (torch.arange(height) + 0.5) / height * tall
        offset_x = (x[None] - middle[:, :1]) / (REACH[0] * span[:, None])
        offset_y = (y[None] - middle[:, 1:]) / (REACH[1] * span[:, None])
        distance = (offset_x[:, None, :] ** 2 + offset_y[:, :, None] ** 2).sqrt()
        inside = ((1 + EDGE - distance) / EDGE).clamp(0, 1)
        return (1 + (weight - 1) * inside)[:, None]

    return maps
