"""Inhalation between phrases: lips part to draw breath before somebody speaks."""

from __future__ import annotations

import torch
from torch import Tensor

from .smoothing import gaussian_smoothing, smooth_step
from .speaking_gate import ACTIVITY_HZ, EDGE_FRAMES

LEAST_PAUSE_S = 0.25  # a shorter pause is a stop or a hesitation: lips rest
CLOSED_S = 0.08  # after a phrase, before lips part again
RISE_S = 0.2  # in which they part
INHALE_S = 0.45  # before a phrase in which they are parted: a quick breath takes half a second
REACH = round((INHALE_S + RISE_S) * ACTIVITY_HZ + 3 * EDGE_FRAMES) + 2  # frames of 10 ms that are looked back and ahead


def inhalation(activity: Tensor) -> Tensor:
    """How far lips are parted to draw breath, in pauses of speech and before it begins.

    After a phrase and as a clip begins the mouth first rests, and in a long pause it rests until half a second before
    the next one. After the last phrase it rests.

    Args:
        activity: (M,) 0..1 at 100 Hz, from `speech.voice_activity`.

    Returns:
        (M,) 0 at rest and while somebody speaks .. 1 parted, with edges as soft as the speaking gate's; what it looks
        at lies within `REACH` frames.

    Source: McFarland, "Respiratory markers of conversational interaction", JSLHR 44, 2001, for the time a breath takes.
    In 20 filmed clips (`python -m benchmarks lipsync`) lips in pauses are on average as far apart as in speech, and
    farthest just before a phrase.
    """
    since = _since_voice(activity, -round(CLOSED_S * ACTIVITY_HZ))  # a clip begins at rest
    until = _since_voice(activity.flip(0), -ACTIVITY_HZ).flip(0)
    parted = smooth_step((since - CLOSED_S) / RISE_S) * smooth_step((INHALE_S + RISE_S - until) / RISE_S)
    pauses = (since > 0) & (since + until >= LEAST_PAUSE_S)
    return gaussian_smoothing((parted * pauses).float(), EDGE_FRAMES)


def _since_voice(activity: Tensor, before: int) -> Tensor:
    """(M,) seconds, at most one, since somebody spoke, the first time in frame `before`; 0 while somebody speaks."""
    frames = torch.arange(len(activity))
    last = torch.where(activity > 0.5, frames, before).cummax(0).values
    return ((frames - last) / ACTIVITY_HZ).clamp(max=1.0)
