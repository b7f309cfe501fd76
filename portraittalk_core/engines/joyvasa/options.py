"""Options of JoyVASA's sampling. No torch at the top, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import check_options, option


@dataclass(frozen=True)
class JoyVasaOptions:
    """Options of JoyVASA's sampling."""

    guidance: float = option(
        2.8, 0, 10, "JoyVASA: how strongly the motion follows the sound; 1 is calm, 2.8 the authors' choice.",
        step=0.1, column="joyvasa_guidance",
    )  # fmt: skip
    steps: int = option(
        0, 0, 1000, "JoyVASA: steps of the diffusion; 0 takes all of them. 20 to 50 are much faster, and calmer.",
        column="joyvasa_steps",
    )  # fmt: skip
    head_smoothing: float = option(
        0.99, 0, 0.999, "JoyVASA: how much of the head's motion before stays in each frame; 0 leaves it as it is.",
        step=0.01, column="joyvasa_head_smoothing",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
