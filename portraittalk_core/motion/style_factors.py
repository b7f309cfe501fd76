"""Options and style statistics as factors of what a motion engine does by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..face.geometry import smile, stabilised
from ..types import STYLE_STATISTICS, LandmarkTrack, MouthCurves, StyleStatistics
from .options import MotionOptions
from .rig import WIDEST_GAP

MIN_FACTOR, MAX_FACTOR = 0.2, 2.5  # a style changes no movement by more than that
MAX_LIVELY_FACTOR = 4.0  # but small ones of head and brows
MIN_BLINK_RATE, MAX_BLINK_RATE = 1.0, 60.0  # per minute
MAX_SMILE = 0.12  # inter-ocular distances
MAX_GAP_OFFSET = 0.1  # that lips stand further apart, or nearer, over the mouth's width
_PLAIN = StyleStatistics()


@dataclass(frozen=True)
class StyleFactors:
    """Factors of an engine's own movements, 1 as it is by itself, and the rest pose."""

    opening: float = 1.0
    spread: float = 1.0
    rounding: float = 1.0
    blink_rate: float = 15.0  # per minute
    blink_time: float = 1.0
    head: float = 1.0  # of angles
    head_shift: float = 1.0
    head_pace: float = 1.0
    brow: float = 1.0
    smile: float = 0.0  # inter-ocular distances
    gap_offset: float = 0.0  # that lips stand further apart always, unless pressed; over the mouth's width


def style_factors(options: MotionOptions, own_smile: float = 0.0) -> StyleFactors:
    """Factors of options and style; without style statistics they are the options' own.

    A movement is changed by the ratio of the style_statistics's and the engine's, to the power of the style's strength.

    Args:
        options: their head motion, blink rate and style count.
        own_smile: how high the face's own corners rest: what it has already of a smile, or of its opposite, is not
            added again.
    """
    head = options.head_motion
    brow = min(head, 1.0) * options.brow_motion
    plain = StyleFactors(blink_rate=options.blink_rate, head=head, head_shift=head, brow=brow)
    style_statistics = options.style_statistics
    if style_statistics is None or style_statistics.strength == 0:
        return plain
    ratio = {name: _ratio(style_statistics, name) for name in STYLE_STATISTICS}
    # the engine's lips at their closest come nearer or go apart with all of its opening
    gap_offset = _PLAIN.rest_opening * (1 - ratio["opening"]) + style_statistics.strength * (
        style_statistics.rest_opening - _PLAIN.rest_opening
    )
    rate = (
        options.blink_rate
        * (max(style_statistics.blink_rate, MIN_BLINK_RATE) / _PLAIN.blink_rate) ** style_statistics.strength
    )
    return StyleFactors(
        opening=ratio["opening"],
        spread=ratio["spread"],
        rounding=ratio["rounding"],
        blink_rate=min(rate, MAX_BLINK_RATE),
        blink_time=min(max(ratio["blink_s"], 0.6), 1.8),
        head=plain.head * ratio["head_deg"],
        head_shift=plain.head_shift * _ratio(style_statistics, "head_shift", MAX_LIVELY_FACTOR),
        head_pace=ratio["head_hz"],
        brow=plain.brow * _ratio(style_statistics, "brow", MAX_LIVELY_FACTOR),
        smile=min(
            max(style_statistics.strength * _missing_smile(style_statistics.smile, own_smile), -MAX_SMILE), MAX_SMILE
        ),
        gap_offset=min(max(gap_offset, -MAX_GAP_OFFSET), MAX_GAP_OFFSET),
    )


def own_smile(reference: LandmarkTrack) -> float:
    """How much higher a face's own mouth corners rest than most people's, inter-ocular distances."""
    return float(smile(stabilised(reference.points_px[:1]))[0])


def _missing_smile(target: float, current: float) -> float:
    """What a face's own smile, or its opposite, lacks of the target; nothing is taken from one that has more."""
    return max(target - max(current, 0.0), 0.0) if target > 0 else min(target - min(current, 0.0), 0.0)


def _ratio(style_statistics: StyleStatistics, name: str, upper: float = MAX_FACTOR) -> float:
    plain = getattr(_PLAIN, name)
    if plain <= 0:
        return 1.0
    return min(max(max(getattr(style_statistics, name) / plain, 1e-3) ** style_statistics.strength, MIN_FACTOR), upper)


def styled_mouth(mouth: MouthCurves, factors: StyleFactors) -> MouthCurves:
    """The mouth's movements, T frames, by their factors; pressed lips stay pressed."""
    if factors.opening == factors.spread == factors.rounding == 1 and factors.gap_offset == 0:
        return mouth
    more = factors.gap_offset / WIDEST_GAP
    opening = {name: (getattr(mouth, name) * factors.opening + more).clamp(0, 2) for name in ("opening", "jaw")}
    width = (mouth.width * factors.spread).clamp(-1, 1)
    return replace(mouth, **opening, width=width, rounding=(mouth.rounding * factors.rounding).clamp(0, 1))
