from fractions import Fraction

import pytest
import torch

from portraittalk_core.motion.blink import blink_curve

FPS = Fraction(25)


def count_blinks(curve: torch.Tensor) -> int:
    shut = curve > 0.5
    return int((shut[1:] & ~shut[:-1]).sum())


@pytest.mark.parametrize("rate", [6.0, 15.0, 30.0])
def test_blinks_come_at_the_asked_rate(rate):
    minutes = 40
    found = count_blinks(blink_curve(minutes * 60 * 25, FPS, rate, seed=3)) / minutes
    assert found == pytest.approx(rate, rel=0.12)


def test_no_blinks_at_rate_zero():
    assert blink_curve(1000, FPS, 0.0).abs().max() == 0


def test_blinks_follow_the_seed():
    first, again, other = (blink_curve(2000, FPS, 15.0, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, other)


def test_blinks_close_faster_than_they_open_and_stay_in_range():
    curve = blink_curve(20 * 240, Fraction(240), 15.0, seed=0)
    assert curve.min() >= 0
    assert curve.max() <= 1
    rising = int((curve.diff() > 0).sum())
    falling = int((curve.diff() < 0).sum())
    assert falling > 1.4 * rising


def test_blinks_are_not_a_loop():
    curve = blink_curve(120 * 25, FPS, 15.0, seed=0)
    starts = torch.nonzero((curve[1:] > 0.5) & (curve[:-1] <= 0.5)).flatten().diff().float()
    assert starts.std() > 0.25 * starts.mean()


def test_blinks_leave_the_first_moment_alone():
    for seed in range(50):
        assert blink_curve(8, FPS, 40.0, seed).abs().max() == 0  # the first 0.3 s


def test_some_blinks_are_double_and_none_melt_together():
    curve = blink_curve(40 * 60 * 100, Fraction(100), 15.0, seed=0)
    starts = torch.nonzero((curve[1:] > 0.5) & (curve[:-1] <= 0.5)).flatten()
    gaps_s = starts.diff() / 100
    double = (gaps_s < 0.55).float().mean()
    assert 0.03 < double < 0.15
    assert gaps_s.min() > 0.3
    assert all(curve[a:b].min() < 0.05 for a, b in zip(starts[:-1], starts[1:], strict=True))


def test_a_blink_shuts_within_a_tenth_of_a_second_and_opens_within_two():
    curve = blink_curve(60 * 1000, Fraction(1000), 10.0, seed=4)
    start = int(torch.nonzero(curve > 0)[0])
    one = curve[start : start + 320]
    shut = torch.nonzero(one == 1).flatten()
    assert 80 <= int(shut[0]) <= 100  # milliseconds
    assert 150 <= int(torch.nonzero(one[shut[-1] :] == 0).flatten()[0]) <= 200
