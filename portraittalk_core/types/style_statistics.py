"""Statistics of a speaking style."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check_range
from ..errors import InputError

# what is measured of a way of speaking: fields of StyleStatistics besides its strength
STYLE_STATISTICS = (
    "opening", "rest_opening", "spread", "rounding", "smile", "blink_rate", "blink_s", "head_deg", "head_hz",
    "head_shift", "brow",
)  # fmt: skip


@dataclass(frozen=True)
class StyleStatistics:
    """Statistics of a speaking style, by which it scales the motion of any engine.

    What stands here is how the engine in the box speaks by itself.
    """

    opening: float = 0.21  # how far the lips part while speaking, 10th to 90th percentile, over the mouth's width
    rest_opening: float = 0.015  # how far they stand apart at their closest, over the mouth's width
    spread: float = 0.035  # how far the corners go outward, median to 90th percentile of their distance
    rounding: float = 0.11  # how far they come in, 10th percentile to median; both in inter-ocular distances
    smile: float = 0.0  # how much higher than most people's the corners stand at rest, inter-ocular distances
    blink_rate: float = 15.0  # blinks per minute
    blink_s: float = 0.16  # how long a blink keeps the lids shut, seconds
    head_deg: float = 0.86  # deviation of the head's angles, degrees, root mean square of the three
    head_hz: float = 0.27  # how often the head swings to and fro
    head_shift: float = 0.015  # deviation of the head's place, inter-ocular distances
    brow: float = 0.008  # how far the brows move, 10th to 90th percentile, inter-ocular distances
    strength: float = 1.0  # 0 leaves an engine as it is, 1 speaks so, 2 exaggerates

    def __post_init__(self) -> None:
        check_range(self.strength, 0, 2, "the strength of a style")
        for name in STYLE_STATISTICS:
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name} of a style is {getattr(self, name)}; it must be a number.")
