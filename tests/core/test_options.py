"""Options declared as dataclass fields."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from portraittalk_core.errors import InputError
from portraittalk_core.options import check_options, option, option_of, options_of


@dataclass(frozen=True)
class Painting:
    """Options of every kind."""

    strength: float = option(0.5, 0, 2, "how strongly it acts", step=0.05)
    steps: int | None = option(None, 1, 100, "of denoising")
    loop: bool = option(False, help="begin anew at the end")
    order: str = option("size", help="how faces are counted", choices=("size", "left"))
    files: tuple[Path, ...] = option((), help="pictures")
    drawn: object = None  # no option

    def __post_init__(self) -> None:
        check_options(self)


def test_options_of_a_dataclass_are_its_declared_fields():
    found = options_of(Painting)
    assert [one.name for one in found] == ["strength", "steps", "loop", "order", "files"]
    assert [one.kind for one in found] == [float, int, bool, str, Path]
    assert [one.many for one in found] == [False, False, False, False, True]
    assert (found[0].low, found[0].high, found[0].default, found[0].step) == (0, 2, 0.5, 0.05)
    assert found[0].help == "how strongly it acts"


def test_flag_has_dashes():
    @dataclass(frozen=True)
    class One:
        mouth_gain: float = option(1.0, 0, 2)

    assert option_of(One, "mouth_gain").flag == "--mouth-gain"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": 2.5}, "strength must lie between 0 and 2, but is 2.5"),
        ({"strength": float("nan")}, "strength must be a number from 0 to 2, not nan"),
        ({"strength": True}, "strength must be a number"),
        ({"strength": "1"}, "strength must be a number from 0 to 2, not '1'"),
        ({"steps": 2.5}, "steps must be a whole number, not 2.5"),
        ({"steps": 0}, "steps must lie between 1 and 100"),
        ({"loop": 1}, "loop must be true or false, not 1"),
        ({"order": "right"}, "order must be one of size, left, not 'right'"),
    ],
)
def test_check_options_rejects(given, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Painting(**given)


def test_check_options_takes_the_ends_and_none_where_it_is_the_default():
    assert Painting(strength=2, steps=None).strength == 2
    assert Painting(strength=0, steps=100).steps == 100


def test_options_need_no_torch():
    words = "import sys; sys.modules['torch'] = None; import portraittalk_core.options"
    subprocess.run([sys.executable, "-c", words], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("number", [float("1e309"), -float("1e309"), 10**400])
def test_a_number_too_large_for_a_float_is_an_error_with_and_without_a_range(number):
    @dataclass(frozen=True)
    class One:
        inside: float = option(1.0, 0, 2)
        free: float = option(1.0)

        def __post_init__(self) -> None:
            check_options(self)

    with pytest.raises(InputError, match="inside must be a number from 0 to 2, not"):
        One(inside=number)
    with pytest.raises(InputError, match="free must be a finite number, not"):
        One(free=number)


def test_a_range_of_one_end_says_so():
    @dataclass(frozen=True)
    class One:
        least: float = option(1.0, 0)
        most: float = option(1.0, None, 2)

        def __post_init__(self) -> None:
            check_options(self)

    with pytest.raises(InputError, match="least must be at least 0, but is -1"):
        One(least=-1)
    with pytest.raises(InputError, match="most must be at most 2, but is 3"):
        One(most=3)
