from dataclasses import replace

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.style_factors import MAX_FACTOR, StyleFactors, style_factors, styled_mouth
from portraittalk_core.types import STYLE_STATISTICS, MouthCurves, StyleStatistics


def test_style_factors_without_a_manner_are_the_options():
    assert style_factors(MotionOptions(head_motion=1.5, blink_rate=9)) == StyleFactors(
        blink_rate=9, head=1.5, head_shift=1.5, brow=1.0
    )


@pytest.mark.parametrize(
    "style_statistics", [StyleStatistics(), StyleStatistics(opening=0.6, smile=0.1, blink_rate=40, strength=0)]
)
def test_style_factors_of_the_engines_own_manner_change_nothing(style_statistics):
    assert style_factors(MotionOptions(style_statistics=style_statistics)) == style_factors(MotionOptions())


def test_style_factors_follow_ratio_and_strength():
    plain = StyleStatistics()
    half = replace(plain, opening=plain.opening / 2, head_deg=2 * plain.head_deg)
    found = {s: style_factors(MotionOptions(style_statistics=replace(half, strength=s))) for s in (0.5, 1.0, 2.0)}
    assert [found[s].opening for s in (0.5, 1.0, 2.0)] == pytest.approx([2**-0.5, 0.5, 0.25])
    assert found[1.0].head == pytest.approx(2)
    assert style_factors(MotionOptions(head_motion=0.5, style_statistics=half)).head == pytest.approx(1)


def test_style_factors_are_limited():
    wild = StyleStatistics(**{name: 1000.0 for name in STYLE_STATISTICS}, strength=2)
    found = style_factors(MotionOptions(style_statistics=wild))
    assert found.opening == found.head == MAX_FACTOR and found.blink_rate == 60 and found.smile == 0.12
    still = style_factors(
        MotionOptions(style_statistics=StyleStatistics(**dict.fromkeys(STYLE_STATISTICS, 0.0), strength=2))
    )
    assert 0 < still.opening < 0.3 and still.head > 0


def test_manner_rejects_what_is_no_number():
    with pytest.raises(InputError, match="head_hz of a style is nan"):
        StyleStatistics(head_hz=float("nan"))
    with pytest.raises(InputError, match=r"strength of a style.*3"):
        StyleStatistics(strength=3)


def test_styled_mouth_scales_movement_and_keeps_closures():
    mouth = MouthCurves(*(torch.full((4,), 0.4) for _ in range(7)))
    made = styled_mouth(mouth, StyleFactors(opening=2, spread=0.5, rounding=4))
    assert made.opening.tolist() == pytest.approx([0.8] * 4) and made.jaw.tolist() == pytest.approx([0.8] * 4)
    assert made.width.tolist() == pytest.approx([0.2] * 4) and made.rounding.max() == 1
    assert torch.equal(made.press, mouth.press)
    assert styled_mouth(mouth, StyleFactors()) is mouth


@pytest.mark.parametrize(
    ("opening", "rest", "strength", "apart"),
    [
        (0.21, 0.075, 1, 0.06),  # 0.015 is the engine's own
        (0.21, 0.075, 2, 0.1),  # at most
        (0.42, 0.03, 1, 0.0),  # twice the opening has twice the own
        (0.42, 0.0, 1, -0.03),
        (0.105, 0.0, 1, -0.0075),
    ],
)
def test_lips_at_their_closest_follow_the_manner(opening, rest, strength, apart):
    style_statistics = StyleStatistics(opening=opening, rest_opening=rest, strength=strength)
    assert style_factors(MotionOptions(style_statistics=style_statistics)).gap_offset == pytest.approx(apart, abs=1e-6)


def test_lips_come_nearer_without_crossing():
    mouth = replace(MouthCurves.closed(3), opening=torch.tensor([0.0, 0.1, 0.5]))
    made = styled_mouth(mouth, StyleFactors(gap_offset=-0.072))  # a fifth of the widest gap
    assert made.opening.tolist() == pytest.approx([0, 0, 0.3])


@pytest.mark.parametrize(
    ("wanted", "own", "added"),
    [
        (0.06, 0.0, 0.06),
        (0.06, 0.04, 0.02),
        (0.06, 0.14, 0.0),
        (0.06, -0.05, 0.06),
        (0.0, 0.14, 0.0),
        (-0.02, 0.1, -0.02),
    ],
)
def test_a_smile_that_is_there_already_is_not_added_again(wanted, own, added):
    assert style_factors(MotionOptions(style_statistics=StyleStatistics(smile=wanted)), own).smile == pytest.approx(
        added
    )
