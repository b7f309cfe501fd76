"""The built-in engine: mouth, blinks and head motion from the sound alone, on any face."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ...motion.blink import Blinks
from ...motion.expression import timeline_of
from ...motion.head import HeadDrift
from ...motion.life import Life
from ...motion.options import MotionOptions
from ...motion.rig import SPAN, make_rig, plan_landmarks
from ...motion.smoothing import frame_times_s
from ...motion.stress import REACH_S, brow_curve, stress_curve, stress_reach
from ...motion.style_factors import own_smile, style_factors, styled_mouth
from ...progress import Progress
from ...speech.blocks import in_blocks
from ...types import LandmarkTrack, MotionPlan, Speech, joined_plans
from ..raw_engine import counted_in_frames
from .mouth import COLUMNS, iterate_natural_mouth, with_breath, with_gain
from .spec import SPEC


class BuiltinEngine:
    """The motion engine that needs no file; see `contract.MotionEngine`."""

    name = SPEC.name

    def __init__(self, network: Path | None = None) -> None:
        """Choose a mouth network.

        Args:
            network: a file of `portraittalk train mouth` or `train closures`; None is the built-in network.
        """
        self.network = network

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """Consecutive spans of landmarks, see `contract.MotionEngine`; of long clips, made while they are heard."""
        options = options or MotionOptions()
        hearing = counted_in_frames(on_progress, speech.num_frames(options.fps))
        rig = make_rig(reference)
        for plan in iterate_plans(speech, reference, options, self.network, hearing):
            yield plan_landmarks(plan, rig=rig)


def plan_motion(
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    network: Path | None = None,
    on_progress: Progress | None = None,
) -> MotionPlan:
    """Motion plan of a whole clip: the pieces of `iterate_plans`, joined."""
    return joined_plans(list(iterate_plans(speech, reference, options, network, on_progress)))


def iterate_plans(
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    network: Path | None = None,
    on_progress: Progress | None = None,
) -> Iterator[MotionPlan]:
    """Motion plan of a clip, piece by piece.

    Args:
        speech: the clip.
        reference: one frame: the face that is to say it.
        options: all of them count; None are the defaults.
        network: a file of `portraittalk train mouth` or `train closures`; None is the built-in network.
        on_progress: called with tenths of seconds processed and in all; may raise to stop.

    Yields:
        Plans of `SPAN` frames, the last may be shorter; together ceil(seconds · fps) frames.
    """
    options = options or MotionOptions()
    fps, factors = options.fps, style_factors(options, own_smile(reference))
    count, done = speech.num_frames(fps), 0
    gains, timeline, times = options.gains(count), timeline_of(options), frame_times_s(count, fps)
    blinks = Blinks(fps, factors.blink_rate, options.seed, factors.blink_time, count / float(fps))
    drift = HeadDrift(options.seed, factors.head, factors.head_shift, factors.head_pace)
    life = Life(options, reference, factors)
    for rows, stresses, first in _with_stress(iterate_natural_mouth(speech, options, network, on_progress), fps):
        span = slice(done, done + len(rows))
        done = span.stop
        curves, stress, brow, moments = rows[:, :COLUMNS], rows[:, -2], rows[:, -1] * factors.brow, times[span]
        lively = life.next(moments, with_breath(curves, 0.0), drift.at(moments, stress))
        mouth = styled_mouth(with_breath(curves, options.breath), factors)
        yield MotionPlan(
            reference, with_gain(mouth, gains[span]), blinks.next(moments, stresses, first),
            brow, lively.head, fps, factors.smile, timeline.at(moments), lively.gaze, lively.shoulders,
        )  # fmt: skip


def _with_stress(mouth: Iterable[Tensor], fps: Fraction) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Mouth curves, stress and brows, and the stress around them.

    Args:
        mouth: blocks of (m, 8) curves of `iterate_natural_mouth`.
        fps: frames per second.

    Yields:
        (n, 10) `SPAN` frames of curves, stress and brows, the last may be fewer; (S,) the stress of the frames around,
        and the number of the first of these.
    """

    def stressed(curves: Tensor) -> Tensor:
        stress = stress_curve(with_breath(curves, 0.0), fps)
        return torch.cat([curves, stress[:, None], brow_curve(stress, fps)[:, None]], 1)

    around = math.ceil(2 * REACH_S * float(fps)) + 1  # frames that a blink may look back and ahead
    reach = stress_reach(fps)
    held, first, begins = torch.empty(0, COLUMNS + 2), 0, 0  # rows from `first`; the next span's begin
    for block in itertools.chain(in_blocks(stressed, mouth, reach, reach, SPAN), [None]):
        held = held if block is None else torch.cat([held, block])
        while (waiting := first + len(held) - begins) >= SPAN + around or (block is None and waiting > 0):
            start = begins - first
            yield held[start : start + SPAN], held[:, -2], first
            begins = min(begins + SPAN, first + len(held))
            cut = max(0, begins - around - first)
            held, first = held[cut:], first + cut
