import math
from fractions import Fraction

import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from portraittalk_core.face.curve_statistics import blink_durations_s, gaussian_smoothed, swing_frequency


@pytest.mark.parametrize("sigma", [0.7, 3.0])
def test_gaussian_smoothed_matches_scipy(sigma):
    curve = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter1d(curve.numpy(), sigma, axis=0, mode="nearest", radius=math.ceil(3 * sigma))
    assert gaussian_smoothed(curve, sigma).numpy() == pytest.approx(expected, abs=1e-6)


def test_swing_frequency_of_a_sine_is_its_own():
    times = torch.arange(2000, dtype=torch.float64)
    angles = torch.stack([10 * (2 * math.pi * 0.01 * times).sin()] * 3, 1)
    assert float(swing_frequency(angles)) == pytest.approx(0.01, rel=1e-3)


def test_blink_durations_leave_jitter_closed_eyes_and_unseen_frames_out():
    lids, valid = torch.full((200,), 0.3), torch.ones(200, dtype=torch.bool)
    for start, count in ((10, 1), (30, 2), (50, 5), (80, 30), (150, 4)):  # 0.04 s is jitter, 1.2 s are closed eyes
        lids[start : start + count] = 0.05
    valid[150:154] = False
    assert blink_durations_s(lids, valid, Fraction(25)).tolist() == pytest.approx([2 / 25, 5 / 25])
