"""The benchmark of shut lids finds the blinks of a track, and their error where the eyes are."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.blinks import _psnr, blinks_of  # noqa: E402
from portraittalk_core.face.aperture import LEFT_EYE, RIGHT_EYE  # noqa: E402
from portraittalk_core.face.canonical import canonical_face  # noqa: E402
from portraittalk_core.types import LandmarkTrack  # noqa: E402

SIDE = 200
POINTS = canonical_face() * 60 + torch.tensor([100.0, 80.0, 0.0])


def test_blinks_are_found_with_the_open_frame_whose_head_is_nearest():
    frames = POINTS.repeat(40, 1, 1)
    frames[:, :, 0] += torch.arange(40.0)[:, None]  # the head moves on
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        for frame, share in ((19, 0.7), (20, 0.9), (21, 0.7)):
            way = frames[frame, list(lower)] - frames[frame, list(upper)]
            frames[frame, list(upper)] += share * way
    ((shut, opened),) = blinks_of(LandmarkTrack.from_px(frames, SIDE, SIDE, Fraction(25)))
    assert shut == 20
    assert opened in (18, 22)


def test_only_what_is_around_the_eyes_counts():
    real = torch.full((SIDE, SIDE, 3), 100, dtype=torch.uint8)
    elsewhere = real.clone()
    elsewhere[int(POINTS[1, 1]) :] = 0  # from the nose down
    assert _psnr(elsewhere, real, POINTS) > 70
    assert _psnr(real + 5, real, POINTS) == pytest.approx(20 * torch.log10(torch.tensor(255 / 5)).item(), abs=0.01)


def test_an_eye_at_the_edge_of_the_picture_is_compared_as_far_as_it_shows():
    real = torch.full((SIDE, SIDE, 3), 100, dtype=torch.uint8)
    at_edge = POINTS - torch.tensor([float(POINTS[:, 0].min()), float(POINTS[159, 1]), 0.0])  # eyes at the top
    assert _psnr(real + 5, real, at_edge) == pytest.approx(20 * torch.log10(torch.tensor(255 / 5)).item(), abs=0.01)
