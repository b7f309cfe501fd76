"""The compact motion of a whole clip on one face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import torch
from torch import Tensor

from .head_pose import HeadPose
from .landmark_track import LandmarkTrack
from .mouth import MouthCurves


@dataclass(frozen=True)
class MotionPlan:
    """Compact motion of a whole clip on one face; `motion.rig` turns any span of it into landmarks."""

    reference: LandmarkTrack  # T = 1: the face at rest
    mouth: MouthCurves  # (T,)
    blink: Tensor  # (T,) float32, 0 open .. 1 shut
    brow: Tensor  # (T,) float32, 0 at rest .. 1 raised .. 2 as far as a style may
    head: HeadPose  # (T, …) relative to the reference: angles to add, translation to add, scale 1 = unchanged
    fps: Fraction
    smile: float = 0.0  # how much higher the mouth's corners rest, inter-ocular distances
    expression: Tensor | None = None  # (T, 13) amounts of `motion.expression.ACTIONS`; None shows no emotion
    gaze: Tensor | None = None  # (T, 2) yaw and pitch of the eyes, see `motion.gaze`; None keeps them in the head
    shoulders: Tensor | None = None  # (T,) how far the shoulders rise, inter-ocular distances; None keeps them

    def __len__(self) -> int:
        return len(self.mouth)


def joined_plans(plans: Sequence[MotionPlan]) -> MotionPlan:
    """Consecutive plans of one face as one."""
    first, several = plans[0], {}
    for name in ("blink", "brow", "expression", "gaze", "shoulders"):
        parts = [getattr(plan, name) for plan in plans]
        several[name] = None if parts[0] is None else torch.cat(parts)
    for name in ("mouth", "head"):
        parts = [getattr(plan, name) for plan in plans]
        columns = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(parts[0])}
        several[name] = type(parts[0])(**columns)
    return replace(first, **several)
