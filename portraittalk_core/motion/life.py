"""Eyes, breath and idle motion of a face that speaks, from the curves of its mouth and the options."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import HeadPose, LandmarkTrack, MouthCurves
from .breath import HEAD_BACK_DEG, HEAD_RISE, SHOULDER_RISE, Breath
from .gaze import Gaze
from .idle import IdleMotion
from .options import MotionOptions
from .rig import face_axes
from .smoothing import frame_times_s
from .style_factors import StyleFactors

HOLD_S = 0.16  # a mouth that rests for less still speaks: a stop consonant lasts a tenth of a second
# from which on a mouth speaks, of each of its curves
SPEAKS = {"opening": 0.06, "jaw": 0.06, "width": 0.2, "rounding": 0.2, "press": 0.3}


@dataclass(frozen=True)
class LifeCurves:
    """What moves in a face beside mouth, lids and brows, T frames."""

    head: HeadPose  # its own motion, with breath and idle motion
    gaze: Tensor | None  # (T, 2) degrees, see `motion.gaze`
    shoulders: Tensor | None  # (T,) how far they rise, inter-ocular distances


class Life:
    """Eyes, breath and idle motion of a face at any moment; pieces may be asked for one after the other.

    All of it depends on the options, the seed and what was said so far, never on what comes later: it is the same for a
    whole clip and for the pieces of a stream.

    Args:
        options: all that is not the mouth's counts.
        reference: one frame: the portrait's face.
        factors: of options and style; the head's count.
    """

    def __init__(self, options: MotionOptions, reference: LandmarkTrack, factors: StyleFactors) -> None:
        points = reference.points_px[0]
        axes, origin, unit = face_axes(points)
        self._options, self._frames = options, 0
        self._gaze = Gaze(options, (points - origin) @ axes.T / unit, axes)
        self._breath = Breath(options.seed) if options.breath > 0 else None
        self._idle = IdleMotion(options.seed, factors.head_pace)
        self._head = min(factors.head, 1.0)
        self._moved_s: float | None = None  # when the mouth moved last

    def next(self, times_s: Tensor, mouth: MouthCurves, head: HeadPose) -> LifeCurves:
        """The next frames.

        Args:
            times_s: (T,) later than all before.
            mouth: (T,) at its natural gain.
            head: (T,) how the head moves by itself.
        """
        speaking = self._speaking(times_s, mouth)
        frames = slice(self._frames, self._frames + len(times_s))
        self._frames = frames.stop
        listening, towards = self._others(frames)
        idle = self._idle.at(times_s, speaking, listening, towards)
        added, shoulders = _scaled(idle, self._head * self._options.idle_motion), None
        if self._breath is not None:
            full = self._options.breath * self._breath.at(times_s, speaking)
            shoulders = SHOULDER_RISE * full
            added = _with_breath(added, self._head * full)
        head = HeadPose(head.angles_deg + added.angles_deg, head.translation + added.translation, head.scale)
        gaze = None
        if self._gaze.moves or towards is not None:
            gaze = self._gaze.at(times_s, speaking, head.angles_deg, towards)
        return LifeCurves(head, gaze, shoulders)

    def _speaking(self, times_s: Tensor, mouth: MouthCurves) -> Tensor:
        """(T,) bool: whether the mouth moves, or did a moment ago."""
        moves = torch.stack([getattr(mouth, name).abs() > threshold for name, threshold in SPEAKS.items()]).any(0)
        speaking = []
        for time, moving in zip(times_s.tolist(), moves.tolist(), strict=True):
            self._moved_s = time if moving else self._moved_s
            speaking.append(self._moved_s is not None and time - self._moved_s < HOLD_S)
        return torch.tensor(speaking, dtype=torch.bool)

    def _others(self, frames: slice) -> tuple[Tensor | None, Tensor | None]:
        """How much others speak, (T,), and where they are seen, (T, 2) degrees; None where nobody else is there."""
        listening = self._options.listening
        if listening is None:
            return None, None
        at = torch.arange(frames.start, frames.stop).clamp(max=len(listening.speaking) - 1)
        return listening.speaking[at], listening.towards_deg[at]


def life_of(
    options: MotionOptions, reference: LandmarkTrack, factors: StyleFactors, mouth: MouthCurves, head: HeadPose
) -> LifeCurves:
    """Eyes, breath and idle motion of a whole clip; arguments as of `Life` and `Life.next`."""
    return Life(options, reference, factors).next(frame_times_s(len(mouth), options.fps), mouth, head)


def _scaled(pose: HeadPose, amount: float) -> HeadPose:
    return HeadPose(amount * pose.angles_deg, amount * pose.translation, pose.scale)


def _with_breath(pose: HeadPose, full: Tensor) -> HeadPose:
    """A head that rises, and goes back, where the chest is (T,) full."""
    angles = pose.angles_deg - HEAD_BACK_DEG * full[:, None] * torch.tensor([1.0, 0.0, 0.0])
    return HeadPose(angles, pose.translation - HEAD_RISE * full[:, None] * torch.tensor([0.0, 1.0, 0.0]), pose.scale)
