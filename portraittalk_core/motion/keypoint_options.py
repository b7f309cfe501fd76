"""Options of an edited keypoint track. No torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option, same_option
from .options import MotionOptions

SMOOTHERS = ("one-euro", "gaussian")
MAX_TURN_DEG = 45.0


@dataclass(frozen=True)
class KeypointEdit:
    """What is changed of a keypoint track; the defaults change nothing."""

    mouth_gain: float = option(
        1.0, 0, 2, "How far the mouth moves: 0 keeps it as in its most closed frames, 2 doubles it.", step=0.05
    )
    eyes_gain: float = option(1.0, 0, 2, "How far the eyes move: 0 keeps them open and still.", step=0.05)
    brows_gain: float = option(1.0, 0, 2, "How far the brows move: 0 keeps them still.", step=0.05)
    rest_gain: float = option(
        1.0, 0, 2, "How far the rest of the face moves (cheeks, jaw, nose): 0 keeps it still.", step=0.05
    )
    head_gain: float = option(
        1.0, 0, 2, "How far the head moves about its mean pose: 0 locks it, 2 doubles it.", step=0.05
    )
    pitch_deg: float = option(
        0.0, -MAX_TURN_DEG, MAX_TURN_DEG, "Turns the head down, by so many degrees; up where negative.", step=1
    )
    yaw_deg: float = option(
        0.0, -MAX_TURN_DEG, MAX_TURN_DEG, "Turns the head to the viewer's right, in degrees; left where negative.",
        step=1,
    )  # fmt: skip
    roll_deg: float = option(
        0.0,
        -MAX_TURN_DEG,
        MAX_TURN_DEG,
        "Tilts the head clockwise, by so many degrees; counterclockwise where negative.",
        step=1,
    )
    blink_rate: float = option(
        0.0, 0, 40, "Blinks per minute that are added to the track's own; eyes_gain 0 takes its own away.", step=1
    )
    smoothing: float = option(0.0, 0, 1, "Calms jitter of face and head: 0 none, 1 strong.", step=0.05, advanced=True)
    smoother: str = option(
        "one-euro",
        help="one-euro keeps fast motion and calms slow; gaussian calms all alike.",
        choices=SMOOTHERS, advanced=True,
    )  # fmt: skip
    seed: int = same_option(MotionOptions, "seed", help="Another seed gives other blinks.")

    def __post_init__(self) -> None:
        check_options(self)
