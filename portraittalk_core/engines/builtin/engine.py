"""The built-in engine: mouth, blinks and head motion from the sound alone, on any face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...motion.blink import blink_curve
from ...motion.expression import expression_of
from ...motion.head import head_motion
from ...motion.life import life_of
from ...motion.options import MotionOptions
from ...motion.rig import SPAN, make_rig, plan_landmarks
from ...motion.stress import brow_curve, stress_curve
from ...motion.style_factors import own_smile, style_factors, styled_mouth
from ...progress import Progress
from ...types import LandmarkTrack, MotionPlan, Speech
from ..raw_engine import counted_in_frames
from .mouth import predict_mouth, with_gain
from .spec import SPEC


class BuiltinEngine:
    """The motion engine that needs no file; see `contract.MotionEngine`."""

    name = SPEC.name

    def __init__(self, network: Path | None = None) -> None:
        """Choose a mouth network.

        Args:
            network: a file that `portraittalk train mouth` wrote; None is the built-in network.
        """
        self.network = network

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """Consecutive spans of landmarks, see `contract.MotionEngine`; the clip's compact motion plan is made first."""
        options = options or MotionOptions()
        hearing = counted_in_frames(on_progress, speech.num_frames(options.fps))
        plan = plan_motion(speech, reference, options, self.network, hearing)
        rig = make_rig(plan.reference)
        for start in range(0, len(plan), SPAN):
            yield plan_landmarks(plan, start, start + SPAN, rig)


def plan_motion(
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    network: Path | None = None,
    on_progress: Progress | None = None,
) -> MotionPlan:
    """Motion plan of a whole clip.

    Args:
        speech: the clip.
        reference: one frame: the face that is to say it.
        options: all of them count; None are the defaults.
        network: a file that `portraittalk train mouth` wrote; None is the built-in network.
        on_progress: called with tenths of seconds processed and in all; may raise to stop.

    Returns:
        ceil(seconds · fps) frames.
    """
    options = options or MotionOptions()
    natural = predict_mouth(speech, replace(options, mouth_gain=1.0, gain_curve=None), network, on_progress)
    factors, count = style_factors(options, own_smile(reference)), len(natural)
    stress = stress_curve(natural, options.fps)
    blink = blink_curve(count, options.fps, factors.blink_rate, options.seed, stress, factors.blink_time)
    head = head_motion(stress, options.fps, factors.head, options.seed, factors.head_shift, factors.head_pace)
    brow = brow_curve(stress, options.fps) * factors.brow
    life = life_of(options, reference, factors, natural, head)
    mouth = with_gain(styled_mouth(natural, factors), options.gains(count))
    return MotionPlan(
        reference, mouth, blink, brow, life.head, options.fps, factors.smile,
        expression_of(options, count), life.gaze, life.shoulders,
    )  # fmt: skip
