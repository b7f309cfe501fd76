"""The engine in the box: mouth, blinks and head motion from the sound alone, on any face."""

from __future__ import annotations

from ..types import LandmarkTrack, MotionOptions, MotionPlan, Speech
from .blink import blink_curve
from .head import head_motion
from .mouth import predict_mouth
from .retarget import plan_landmarks


def plan_motion(speech: Speech, reference: LandmarkTrack, options: MotionOptions | None = None) -> MotionPlan:
    """Plan a whole clip's motion in its compact form.

    Args:
        speech: what is said.
        reference: one frame: the face that is to say it.
        options: frame rate and amounts.

    Returns:
        ceil(seconds · fps) frames.
    """
    options = options or MotionOptions()
    mouth = predict_mouth(speech, options)
    blink = blink_curve(len(mouth), options.fps, options.blink_rate, options.seed)
    head = head_motion(mouth, options.fps, options.head_motion, options.seed)
    return MotionPlan(reference, mouth, blink, head, options.fps)


def embedded_motion(speech: Speech, reference: LandmarkTrack, options: MotionOptions | None = None) -> LandmarkTrack:
    """Landmarks of a face that says `speech` (the contract of every motion engine; see `plan_motion`)."""
    return plan_landmarks(plan_motion(speech, reference, options))
