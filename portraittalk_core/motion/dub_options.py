"""Options of dubbing. No torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import check_options, option

SCENES = ("same", "all")
FILM_ENDS = ("cut", "hold", "loop", "ping-pong")
OF_THE_FILM = (
    "fps",
    "head_motion",
    "blink_rate",
    "emotion",
    "emotion_strength",
    "gaze",
    "gaze_yaw",
    "gaze_pitch",
    "eye_motion",
    "brow_motion",
    "breath",
    "idle_motion",
)  # of MotionOptions: what a filmed face keeps


@dataclass(frozen=True)
class DubOptions:
    """Options of a dub, beside those of the mouth."""

    film_end: str = option(
        "cut",
        help="Where the speech is longer than the film: cut ends it with the film, hold keeps the last picture, loop "
        "begins the film anew, ping-pong plays it backwards and forwards.",
        choices=FILM_ENDS,
    )
    scenes: str = option(
        "same",
        help="Which scenes are dubbed, of a film with cuts: same are those that show the first one's person, known by "
        "the face's descriptor, all are all.",
        choices=SCENES,
    )

    person_models: Path | None = option(
        None, help="Folder with InsightFace's buffalo_l, by which the person is known again in other scenes and "
        "found among several faces there; if not given, by dlib's descriptor.",
        metavar="FOLDER",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
