"""Strength, noise and seed of a style; without torch, so that ``--help`` starts fast."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..frame_rate import MAX_FPS, MIN_FPS, as_fps
from ..options import check_options, option

LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class StyleUse:
    """Strength, noise and seed with which a style is sampled."""

    strength: float = option(
        1.0, 0, 2, "0 leaves everything as it is, 1 speaks like the reference, 2 exaggerates.",
        step=0.05, column="style_strength",
    )  # fmt: skip
    noise: float = option(
        0.1, 0, 2, "How much the way of speaking varies from seed to seed, at least; 1 is as much as people differ.",
        step=0.05, column="style_noise",
    )  # fmt: skip
    seed: int = option(0, 0, LARGEST_SEED, "Every seed speaks a little differently, in the same style.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class StyleBlend:
    """Share of two styles that are mixed."""

    share: float = option(0.5, 0, 1, "How much of the second style: 0 none, 1 nothing else.", step=0.01)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class CoefficientOptions:
    """Time of expression coefficients that were measured elsewhere."""

    fps: Fraction = option(
        Fraction(25), MIN_FPS, MAX_FPS, "Frames per second of --coefficients.", column="coefficients_fps"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_options(self)
