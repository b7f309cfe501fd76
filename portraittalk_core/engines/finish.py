"""Applies motion options to the displacements of a network: gain, timing, smoothing, blinks, head and style."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..face import topology as topo
from ..motion.blink import blink_curve
from ..motion.expression import expression_of
from ..motion.gaze import lids, look
from ..motion.head import head_motion
from ..motion.life import life_of
from ..motion.options import MotionOptions
from ..motion.rig import MAX_BROW, WIDEST_GAP, FaceRig, expressed, make_rig, turn_head
from ..motion.smoothing import frame_times_s, one_euro_smoothing, sample_at
from ..motion.speaking_gate import speaking_gate
from ..motion.stress import brow_curve, stress_curve
from ..motion.style_factors import own_smile, style_factors
from ..speech.voice_activity import voice_activity
from ..types import LandmarkTrack, MouthCurves, Speech
from .raw_motion import RawMotion

SPAN = 256  # frames whose landmarks are worked on at once


def finish_motion(
    raw: RawMotion, speech: Speech, reference: LandmarkTrack, options: MotionOptions
) -> Iterator[LandmarkTrack]:
    """Spans of landmarks from an engine's raw motion, with the motion options applied.

    An engine's motion starts from closed lips, and so does the face: at gain 1 and smoothing 0, without head motion and
    blinks, frames in speech are the reference with its lips closed plus the engine's motion.

    Args:
        raw: the engine's motion at its own rate.
        speech: the clip; frames in which nobody speaks rest with closed lips.
        reference: one frame, as it was given to the engine.
        options: all of them count.

    Yields:
        Consecutive spans, together ceil(seconds · fps) frames.
    """
    rig, count = make_rig(reference), speech.num_frames(options.fps)
    times = frame_times_s(count, options.fps) - options.offset_ms / 1000
    shift = _smoothed(_sampled(raw, times), rig, options)
    gate = sample_at(speaking_gate(voice_activity(speech, options.silence_gate_db)), 100.0, times)
    natural = MouthCurves.closed(count)
    natural.opening.copy_(_parting(shift, rig) * gate)
    stress = stress_curve(natural, options.fps)
    factors = style_factors(options, own_smile(reference))
    blink = blink_curve(count, options.fps, factors.blink_rate, options.seed, stress, factors.blink_time)
    brow = brow_curve(stress, options.fps) * factors.brow
    head = head_motion(stress, options.fps, factors.head, options.seed, factors.head_shift, factors.head_pace)
    life = life_of(options, reference, factors, natural, head)
    rest = rig.rest + rig.close + factors.smile * rig.smile
    gains = options.gains(count) * gate * factors.opening
    expression = expression_of(options, count)
    for start in range(0, count, SPAN):
        span = slice(start, start + SPAN)
        gain = gains[span, None, None]
        moved = shift[span] @ rig.axes.T / rig.unit_px * gain
        moved[:, [*topo.RIGHT_IRIS, *topo.LEFT_IRIS]] = 0  # no network of ours knows where eyes look
        gaze = None if life.gaze is None else life.gaze[span]
        local = rest + moved + rig.brows * brow[span, None, None].clamp(0, MAX_BROW)
        local += rig.shut * lids(blink[span], gaze)[:, None, None]
        if expression is not None:
            local += expressed(rig, expression[span])
        look(local, rig.rest, gaze)
        points_px = rig.to_px(turn_head(local, life.head, span))
        shoulders = None if life.shoulders is None else life.shoulders[span]
        yield LandmarkTrack.from_px(
            points_px, reference.width, reference.height, options.fps, shoulders=shoulders
        )  # fmt: skip


def _sampled(raw: RawMotion, times_s: Tensor) -> Tensor:
    """(T, 478, 3) raw displacements, interpolated linearly at times in seconds."""
    flat = raw.shift_px.flatten(1)
    at = ((times_s - raw.times_s[0]) * float(raw.rate)).clamp(0, len(flat) - 1)
    lower = at.floor().long().clamp(max=max(len(flat) - 2, 0))
    upper = (lower + 1).clamp(max=len(flat) - 1)
    share = (at - lower).float()[:, None]
    return torch.lerp(flat[lower], flat[upper], share).unflatten(1, raw.shift_px.shape[1:])


def _smoothed(shift: Tensor, rig: FaceRig, options: MotionOptions) -> Tensor:
    if options.smoothing <= 0:
        return shift
    # speed counts as a share of the widest gap, so that the size of the face does not matter
    unit = WIDEST_GAP * rig.mouth_width * rig.unit_px
    return (
        one_euro_smoothing(shift.flatten(1) / unit, options.fps, options.smoothing).unflatten(1, shift.shape[1:]) * unit
    )


def _parting(shift: Tensor, rig: FaceRig) -> Tensor:
    """(T,) lip gap of the engine's motion, 0..1 of the widest gap."""
    gap = (shift[:, topo.INNER_LIP_BOTTOM] - shift[:, topo.INNER_LIP_TOP]) @ rig.axes[1]
    return (gap / (WIDEST_GAP * rig.mouth_width * rig.unit_px)).clamp(0, 1.25)
