"""A small portrait of a real face, quick to warp."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from portraittalk_core.types import LandmarkTrack, Portrait


@pytest.fixture(scope="session")
def small(astronaut) -> Portrait:
    """The astronaut's head on 192 × 192 pixels: quick to warp."""
    part = astronaut.picture[0:256, 96:352].float().permute(2, 0, 1)[None]
    picture = torch.nn.functional.avg_pool2d(torch.nn.functional.interpolate(part, 384, mode="bilinear"), 2)
    picture = picture[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
    points = astronaut.landmarks.points_px.clone()
    points[..., 0] -= 96
    return Portrait(picture, LandmarkTrack.from_px(points * 0.75, 192, 192, Fraction(25)), "small")
