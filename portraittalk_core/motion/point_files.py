"""Files of control points: a command's flags, and a manifest's columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.text_files import read_text
from ..options import check_options, option
from .options import MotionOptions
from .points import MAX_POINTS_BYTES

if TYPE_CHECKING:
    from ..types import Speech


@dataclass(frozen=True)
class PointFiles:
    """JSON files of what changes over time, for a portrait's motion."""

    gain_points: Path | None = option(
        None, metavar="IN.json", help="Mouth gain over time, as [[seconds, gain], …]; times --mouth-gain."
    )
    emotion_points: Path | None = option(
        None, metavar="IN.json",
        help="Emotions over time, as [[seconds, emotion, strength], …]; times --emotion-strength.",
    )  # fmt: skip
    gaze_points: Path | None = option(
        None, metavar="IN.json",
        help="Gaze over time, as [[seconds, yaw, pitch], …], degrees; added to --gaze-yaw and --gaze-pitch.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

    def read_into(self, options: MotionOptions, speech: Speech | None = None) -> MotionOptions:
        """The options with the points of the files.

        Args:
            options: of the motion; their frame rate is that of the gain's curve.
            speech: whose frames the gain has; none is needed without `gain_points`.

        Raises:
            InputError: a file cannot be read, or holds no such points.
        """
        from .expression import emotion_points
        from .gain import gain_curve
        from .gaze import gaze_points

        if self.gain_points is not None:
            frames = speech.num_frames(options.fps)
            curve = gain_curve(_text(self.gain_points, "the gain points"), frames, options.fps)
            options = dataclasses.replace(options, gain_curve=curve)
        if self.emotion_points is not None:
            points = emotion_points(_text(self.emotion_points, "the emotion points"))
            options = dataclasses.replace(options, emotion_points=tuple(points))
        if self.gaze_points is not None:
            points = gaze_points(_text(self.gaze_points, "the gaze points"))
            options = dataclasses.replace(options, gaze_points=tuple(points))
        return options


def _text(path: Path, what: str) -> str:
    return read_text(path, what, "give a JSON file", MAX_POINTS_BYTES)
