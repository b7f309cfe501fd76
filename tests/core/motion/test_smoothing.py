from fractions import Fraction

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from portraittalk_core.motion.smoothing import (
    frame_times_s,
    gaussian_smoothing,
    one_euro,
    sample_at,
    zero_phase_one_euro,
)


def test_one_euro_of_a_constant_is_that_constant():
    constant = torch.full((50, 3), 0.4)
    torch.testing.assert_close(one_euro(constant, Fraction(25)), constant)


def test_one_euro_at_rest_is_a_first_order_low_pass():
    step = torch.cat([torch.zeros(1), torch.ones(30)])
    cutoff, rate = 2.0, 25.0
    share = (2 * np.pi * cutoff / rate) / (2 * np.pi * cutoff / rate + 1)
    expected = torch.from_numpy(1 - (1 - share) ** np.arange(31)).float()
    torch.testing.assert_close(one_euro(step, Fraction(25), cutoff, beta=0.0), expected)


def test_one_euro_calms_jitter_and_follows_fast_motion():
    jitter = 0.01 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    assert one_euro(jitter, Fraction(25), 1.0, 4.0)[20:].std() < 0.5 * jitter.std()
    fast = torch.sin(torch.arange(100) * 0.8)
    slow = one_euro(fast, Fraction(25), 1.0, beta=0.0)
    adaptive = one_euro(fast, Fraction(25), 1.0, beta=4.0)
    assert (adaptive - fast).abs().mean() < 0.4 * (slow - fast).abs().mean()


def test_gaussian_matches_scipy():
    signal = torch.randn(80, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter1d(signal.numpy().astype(np.float64), 2.5, mode="nearest", truncate=8 / 2.5)
    torch.testing.assert_close(gaussian_smoothing(signal, 2.5), torch.from_numpy(expected).float(), rtol=0, atol=2e-4)


def test_sample_at_is_linear_and_holds_the_ends():
    ramp = torch.arange(10.0)
    got = sample_at(ramp, 100, torch.tensor([-1.0, 0.0, 0.025, 0.09, 5.0]))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, 2.5, 9.0, 9.0]))


def test_frame_times_are_the_middles():
    torch.testing.assert_close(frame_times_s(3, Fraction(25)), torch.tensor([0.02, 0.06, 0.10], dtype=torch.float64))


def test_steady_treats_both_directions_of_time_alike():
    signal = torch.randn(120, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        zero_phase_one_euro(signal.flip(0), Fraction(25)), zero_phase_one_euro(signal, Fraction(25)).flip(0)
    )


def test_steady_does_not_lag_where_one_euro_does():
    bump = torch.exp(-0.5 * ((torch.arange(101.0) - 50) / 3) ** 2)

    def centre(x: torch.Tensor) -> float:
        return float((x * torch.arange(101.0)).sum() / x.sum())

    assert centre(one_euro(bump, Fraction(25), 1.0, beta=0.0)) > 52
    assert abs(centre(zero_phase_one_euro(bump, Fraction(25), 1.0, beta=0.0)) - 50) < 0.1
