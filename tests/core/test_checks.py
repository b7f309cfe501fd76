"""The border's checks: they let the right through and say what is wrong with the rest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.checks import (
    abbreviated,
    beyond,
    check_choice,
    check_finite,
    check_range,
    check_shape,
    check_text,
    is_finite_number,
    parse_number,
    parse_whole,
)
from portraittalk_core.errors import InputError, ShapeError


@pytest.mark.parametrize(
    ("size", "shape"), [((5, 478, 3), "T 478 3"), ((4, 4), "N N"), ((2, 3, 2), "A B A"), ((), ""), ((0, 3), "T 3")]
)
def test_check_shape_returns_what_fits(size, shape):
    tensor = torch.zeros(size)
    assert check_shape(tensor, shape, "points") is tensor


@pytest.mark.parametrize(
    ("size", "shape"), [((5, 468, 3), "T 478 3"), ((4, 5), "N N"), ((5,), "T 3"), ((5, 3, 1), "T 3")]
)
def test_check_shape_rejects_and_tells_both_shapes(size, shape):
    with pytest.raises(ShapeError) as told:
        check_shape(torch.zeros(size), shape, "points")
    assert str(size) in str(told.value) and "points must have shape" in str(told.value)


def test_check_shape_rejects_what_is_no_tensor():
    with pytest.raises(ShapeError, match="ndarray"):
        check_shape(np.zeros((2, 3)), "T 3", "points")


def test_check_finite_counts_what_is_not():
    tensor = torch.tensor([0.0, torch.nan, torch.inf, -torch.inf, 1.0])
    with pytest.raises(InputError, match="curve holds 3 values of 5"):
        check_finite(tensor, "curve")
    fine = torch.tensor([3.4e38, -3.4e38])  # their sum would overflow
    assert check_finite(fine, "curve") is fine


@pytest.mark.parametrize("value", [0, 2, 1.5, Fraction(1, 3)])
def test_check_range_includes_its_ends(value):
    assert check_range(value, 0, 2, "gain") == value


@pytest.mark.parametrize("value", [-0.001, 2.001, float("nan"), float("inf"), True, "1", None])
def test_check_range_rejects(value):
    with pytest.raises(InputError, match="gain must .*0.*2"):
        check_range(value, 0, 2, "gain")


def test_check_choice_lists_the_choices():
    assert check_choice("b", ("a", "b"), "order") == "b"
    with pytest.raises(InputError, match="order must be one of a, b, not 'c'"):
        check_choice("c", ("a", "b"), "order")


@pytest.mark.parametrize("value", [1, 0.5, Fraction(1, 3), 10**308])
def test_finite_numbers(value):
    assert is_finite_number(value)


@pytest.mark.parametrize("value", [float("1e309"), float("nan"), 10**400, Fraction(10**400), True, "1", None])
def test_what_is_no_finite_number(value):
    assert not is_finite_number(value)
    with pytest.raises(InputError, match="x must be a number from 0 to 2, not "):
        check_range(value, 0, 2, "x")


def test_a_long_value_is_cut_off_in_a_message():
    assert abbreviated("short") == "'short'"
    assert abbreviated(10**400) == "1" + 59 * "0" + "…"


@pytest.mark.parametrize("text", ["1e309", "nan", "-inf", "", "x", "9" * 5000, "1/2", None, [1]])
def test_a_number_of_a_file_that_is_none_is_told(text):
    for parse in (parse_number, parse_whole):
        with pytest.raises(InputError, match="width must be a"):
            parse(text, "width", 0, 10)


def test_numbers_of_a_file_are_read():
    assert parse_whole("7", "width", 0, 10) == 7 and parse_number("2.5", "width", 0, 10) == 2.5
    for parse in (parse_number, parse_whole):
        with pytest.raises(InputError, match="between 0 and 10"):
            parse("11", "width", 0, 10)


@pytest.mark.parametrize(("text", "said"), [("a\0", "NUL"), ("\udcff", "no text in UTF-8"), ("x" * 20_001, "20001")])
def test_a_text_that_nothing_can_keep_is_told(text, said):
    with pytest.raises(InputError, match=f"prompt h.*{said}"):
        check_text(text, "prompt")
    assert check_text("häß \U0001f600", "prompt")


@pytest.mark.parametrize(
    ("value", "limits", "digits", "text"),
    [
        (19.8, (20,), 0, "19.8"),
        (19.2, (20,), 0, "19"),
        (19.96, (20,), 0, "19.96"),
        (20.0, (20,), 0, "20"),
        (20.2, (20,), 0, "20.2"),
        (0.9999999, (1, None), None, "0.9999999"),
        (1.0000001, (0, 1), None, "1.0000001"),
        (3.0, (0, 1), None, "3"),
        (-0.04, (0, 1), 1, "-0.04"),
    ],
)
def test_a_number_beyond_a_limit_is_never_told_as_the_limit(value, limits, digits, text):
    assert beyond(value, *limits, digits=digits) == text


def test_a_range_is_not_contradicted_by_rounding():
    with pytest.raises(InputError, match="must lie between 0 and 1, but is 1.0000001"):
        check_range(1.0000001, 0, 1, "x")
