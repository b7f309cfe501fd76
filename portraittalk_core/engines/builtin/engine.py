"""The engine in the box: mouth, blinks and head motion from the sound alone, on any face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...motion.blink import blink_curve
from ...motion.head import head_motion
from ...motion.rig import plan_track
from ...motion.stress import brow_curve, stress_curve
from ...motion.style_factors import amounts, own_smile, styled_mouth
from ...types import LandmarkTrack, MotionOptions, MotionPlan, Speech
from ..raw_motion import Progress
from .mouth import predict_mouth, with_gain


def plan_motion(
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    network: Path | None = None,
    on_progress: Progress | None = None,
) -> MotionPlan:
    """Plan a whole clip's motion in its compact form.

    Args:
        speech: what is said.
        reference: one frame: the face that is to say it.
        options: frame rate and amounts.
        network: a file that `portraittalk train mouth` wrote; None is the network in the box.
        on_progress: called with tenths of seconds heard and in all; may raise to stop.

    Returns:
        ceil(seconds · fps) frames.
    """
    options = options or MotionOptions()
    natural = predict_mouth(speech, replace(options, mouth_gain=1.0, gain_curve=None), network, on_progress)
    chosen, count = amounts(options, own_smile(reference)), len(natural)
    stress = stress_curve(natural, options.fps)
    blink = blink_curve(count, options.fps, chosen.blink_rate, options.seed, stress, chosen.blink_time)
    head = head_motion(stress, options.fps, chosen.head, options.seed, chosen.head_shift, chosen.head_pace)
    brow = brow_curve(stress, options.fps) * chosen.brow
    mouth = with_gain(styled_mouth(natural, chosen), options.gains(count))
    return MotionPlan(reference, mouth, blink, brow, head, options.fps, chosen.smile)


def embedded_motion(
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    network: Path | None = None,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """Landmarks of a face that says `speech` (the contract of every motion engine; see `plan_motion`)."""
    return plan_track(plan_motion(speech, reference, options, network, on_progress))
