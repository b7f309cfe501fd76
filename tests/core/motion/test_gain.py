from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.motion.gain import gain_curve, gain_of_values, gain_points


def test_no_points_mean_no_curve():
    assert gain_curve("[]", 10, Fraction(25)) is None
    assert gain_curve("  ", 10, Fraction(25)) is None


def test_curve_is_straight_between_points_and_held_outside():
    curve = gain_curve("[[0.1, 0], [0.5, 2]]", 20, Fraction(20))
    middles = (torch.arange(20) + 0.5) / 20
    expected = (2 * (middles - 0.1) / 0.4).clamp(0, 2)
    torch.testing.assert_close(curve, expected)


def test_points_are_put_in_order():
    assert gain_points("[[2, 1], [1, 0.5]]") == [(1.0, 0.5), (2.0, 1.0)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[0, 1]", "JSON"),
        ('{"a": 1}', "list"),
        ("[[0]]", "pair"),
        ("[[0, true]]", "pair"),
        ("[[0, 2.5]]", "2.5"),
        ("[[-1, 1]]", "-1"),
        ("[[1e999, 1]]", "inf"),
        (f"[[0, {10**400}]]", "finite"),
    ],
)
def test_bad_points_are_rejected_with_what_is_wrong(text, word):
    with pytest.raises(InputError, match=word):
        gain_points(text)


@pytest.mark.parametrize(("before", "after"), [(0.5, 2), (2, 0.5)])
def test_two_points_at_one_time_are_a_step_in_the_order_written(before, after):
    curve = gain_curve(f"[[1, {before}], [1, {after}]]", 50, Fraction(25))
    assert curve[:25].eq(before).all()
    assert curve[25:].eq(after).all()


def test_values_hold_at_the_end_and_spare_ones_are_left():
    assert gain_of_values([0.0, 0.5, 2.0], 5).tolist() == [0.0, 0.5, 2.0, 2.0, 2.0]
    assert gain_of_values([0.0, 0.5, 2.0], 2).tolist() == [0.0, 0.5]
    assert gain_of_values(0.5, 3).tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("values", "word"), [([], "empty"), (["loud"], "numbers"), ([None], "numbers"), ([10**400], "numbers")]
)
def test_values_that_are_no_numbers_are_rejected(values, word):
    with pytest.raises(InputError, match=word):
        gain_of_values(values, 3)
