"""Flags that are derived from the option fields of a dataclass."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from portraittalk_core.cli.arguments import add_options, given_options, options_from
from portraittalk_core.errors import InputError
from portraittalk_core.options import check_options, option


@dataclass(frozen=True)
class Painting:
    """Options of every kind."""

    strength: float = option(0.5, 0, 2, "How strongly it acts; 50 % is mild.")
    steps: int = option(20, 1, 1000, "of denoising")
    loop: bool = option(False, help="begin anew at the end")
    cache: bool = option(True, help="forget what was computed")
    order: str = option("size", help="how faces are counted", choices=("size", "left"))
    sampler: str = option("euler", help="as ComfyUI names it", choices=("euler", "lcm"), metavar="NAME")
    fps: Fraction = option(Fraction(25), 1, 240, "frames per second")
    faces: tuple[Path, ...] = option((), help="pictures", metavar="PICTURE", nargs="+")
    lora: tuple[str, ...] = option((), help="LoRA file and its strength")
    vae: Path | None = option(None, help="instead of the checkpoint's")
    window: int = option(16, 2, 64, "frames seen at once", column="paint_window")
    hidden: float = option(0.0, 0, 1, "only Python can give it", shared=False)
    network: object = None  # no option

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Other:
    """Another renderer, whose flags have the same names in part."""

    steps: int = option(25, 1, 100, "of denoising")
    sampler: str = option("ddim", help="its own", choices=("ddim", "euler"), metavar="NAME")
    audio_weight: float = option(3.0, 0, 10, "how strongly the speech acts")


def parser_of(*kinds: type, **more) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("test")
    for kind in kinds:
        add_options(parser.add_argument_group(kind.__name__.lower()), kind, **more)
    return parser


def test_what_is_not_given_is_none_and_keeps_the_default():
    args = parser_of(Painting).parse_args([])
    assert set(vars(args).values()) == {None}
    assert options_from(args, Painting) == Painting() and given_options(args, Painting) == {}


def test_every_kind_of_flag_reaches_its_field():
    words = ["--strength", "1.5", "--steps", "7", "--loop", "--no-cache", "--order", "left", "--sampler", "lcm"]
    words += ["--fps", "29.97", "--faces", "a.png", "b.png", "--lora", "x.safetensors:0.5", "--lora", "y"]
    words += ["--vae", "v.pt", "--paint-window", "24"]
    made = options_from(parser_of(Painting).parse_args(words), Painting, network="net")
    assert made == Painting(
        1.5, 7, True, False, "left", "lcm", Fraction(30000, 1001), (Path("a.png"), Path("b.png")),
        ("x.safetensors:0.5", "y"), Path("v.pt"), 24, network="net",
    )  # fmt: skip


def test_help_shows_range_and_default_of_the_field():
    text = " ".join(parser_of(Painting).format_help().split())
    assert "how strongly it acts; 50 % is mild (0 to 2, default: 0.5)" in text
    assert "--sampler NAME as ComfyUI names it (default: euler)" in text
    assert "--order {size,left}" in text and "--faces PICTURE [PICTURE ...] pictures --lora TEXT LoRA file" in text
    assert "hidden" not in text


def test_names_and_skip_choose_the_flags():
    assert set(vars(parser_of(Painting, names=("strength", "steps")).parse_args([]))) == {"strength", "steps"}
    assert "steps" not in vars(parser_of(Painting, skip=("steps",)).parse_args([]))
    # a command need not have all flags
    assert options_from(argparse.Namespace(steps=3), Painting) == Painting(steps=3)


def test_two_dataclasses_share_a_flag_and_keep_their_own_defaults():
    parser = parser_of(Painting, Other)
    none = parser.parse_args([])
    assert (options_from(none, Painting).steps, options_from(none, Other).steps) == (20, 25)
    both = parser.parse_args(["--steps", "9", "--sampler", "ddim"])
    assert (options_from(both, Other).steps, options_from(both, Other).sampler) == (9, "ddim")
    with pytest.raises(InputError, match="--sampler must be one of euler, lcm, not 'ddim'"):
        options_from(both, Painting)
    text = " ".join(parser.format_help().split())
    assert "(1 to 1000, default: 20); other: of denoising (1 to 100, default: 25)" in text


def test_a_flag_of_two_kinds_is_refused():
    @dataclass(frozen=True)
    class Words:
        steps: str = option("many", help="in words")

    with pytest.raises(ValueError, match="--steps stands for two options"):
        parser_of(Painting, Words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strength", "2.5"], "--strength must lie between 0 and 2, but is 2.5"),
        (["--strength", "1e309"], "--strength must be a number from 0 to 2, not inf"),
        (["--strength", "nan"], "--strength must be a number from 0 to 2, not nan"),
        (["--steps", "0"], "--steps must lie between 1 and 1000, but is 0"),
        (["--steps", "1" + 400 * "0"], "--steps must be a number from 1 to 1000, not 1000"),
        (["--paint-window", "1"], "--paint-window must lie between 2 and 64"),
        (["--fps", "fast"], "--fps must be a number such as 25 or 30000/1001, not 'fast'"),
        (["--fps", "1e309"], "--fps must be a number such as 25 or 30000/1001, not inf"),
        (["--fps", "1e999999999"], "--fps must be a number such as 25"),
        (["--fps", "300"], "--fps must lie between 1 and 240, but is 300"),
    ],
)
def test_a_wrong_value_is_told_with_its_flag(words, said):
    args = parser_of(Painting).parse_args(words)
    with pytest.raises(InputError, match=f"^{said}"):
        options_from(args, Painting)
