"""One motion's head and eyes with the lips of another, span by span: a lively engine, and lips that are exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import InputError
from ..types import KeypointTrack
from .keypoint_edit import composed
from .keypoint_regions import MOUTH, ExpressionBasis
from .keypoint_time import join

LIPS = ("engine", "ours")  # whose the lips are


def with_lips(
    motion: Iterable[KeypointTrack], lips: Iterable[KeypointTrack], basis: ExpressionBasis | None = None
) -> Iterator[KeypointTrack]:
    """Spans of a motion with the mouth of other spans; everything else stays to the last bit.

    Args:
        motion: consecutive spans: head, eyes, brows.
        lips: consecutive spans of any lengths, of the same layout and rate, together at least as long.
        basis: of a model whose regions were measured; None takes what is known of the layout.

    Yields:
        One span for each of `motion`. Of both no more is held than their longest span.

    Raises:
        InputError: the lips end before the motion, or they differ in layout or rate.
    """
    source, rest, done = iter(lips), None, 0
    for span in motion:
        while rest is None or len(rest) < len(span):
            following = next(source, None)
            if following is None:
                has = done + (0 if rest is None else len(rest))
                raise InputError(f"the lips have {has} frames, and the motion has more; make both for one speech.")
            rest = following if rest is None else join([rest, following])
        yield composed(span, rest.slice(0, len(span)), (MOUTH,), basis)
        done += len(span)
        rest = rest.slice(len(span), len(rest)) if len(rest) > len(span) else None
