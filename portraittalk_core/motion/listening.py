"""Listening: what faces of one picture see and hear of each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.geometry import interocular_px
from ..speech.voice_activity import voice_activity
from ..types import LandmarkTrack, Speech
from .options import Listening, MotionOptions
from .smoothing import frame_times_s, sample_at

ACTIVITY_HZ = 100
PHRASE_S = 0.35  # pauses within a phrase that last less are none
REACTION_S = 0.3  # until somebody looks to who has begun to speak
LOOK_DEG = (18.0, 10.0)  # yaw and pitch at most: eyes alone do not look to the side as far as people in a row sit
FAR = 3.0  # inter-ocular distances to another face, from which on these angles are whole
STAYS_S = 1.5  # of silence, after which nobody is looked at any more


def listeners(
    speeches: Sequence[Speech], faces: Sequence[LandmarkTrack], options: MotionOptions, num_frames: int
) -> list[Listening | None]:
    """What each of several faces of one picture listens to; None for one that is alone.

    Args:
        speeches: one a face; all begin together, silence follows.
        faces: one frame each.
        options: frame rate and gate count.
        num_frames: T of the video.
    """
    if len(faces) < 2:
        return [None] * len(faces)
    times = frame_times_s(num_frames, options.fps)
    spoken = torch.stack([_phrases(speech, options.silence_gate_db, times) for speech in speeches])
    middles = torch.stack([face.points_px[0, :, :2].mean(0) for face in faces])
    units = torch.stack([interocular_px(face.points_px[:1])[0] for face in faces])
    rate = float(options.fps)
    listening = []
    for number in range(len(faces)):
        spoken_by_others = spoken.clone()
        spoken_by_others[number] = 0
        offsets = (middles - middles[number]) / (FAR * units[number])
        directions = offsets.clamp(-1, 1) * torch.tensor(LOOK_DEG)
        looked_at = _looked_at(
            spoken_by_others > 0.5, spoken[number] > 0.5, round(REACTION_S * rate), round(STAYS_S * rate)
        )
        towards = torch.where(looked_at[:, None] < 0, 0.0, directions[looked_at.clamp(min=0)])
        listening.append(Listening(spoken_by_others.amax(0), towards))
    return listening


def _phrases(speech: Speech, gate_db: float, times_s: Tensor) -> Tensor:
    """(T,) 0 or 1 while somebody says a phrase, short pauses included; 0 after the end of the sound."""
    activity = (voice_activity(speech, gate_db) > 0.5).float()
    reach = round(PHRASE_S * ACTIVITY_HZ / 2)
    closed = -F.max_pool1d(-F.max_pool1d(activity[None, None], 2 * reach + 1, 1, reach), 2 * reach + 1, 1, reach)
    return sample_at(closed[0, 0], ACTIVITY_HZ, times_s).round() * (times_s < speech.seconds)


def _looked_at(others_speak: Tensor, speaks: Tensor, reaction: int, stays: int) -> Tensor:
    """(T,) which of the other faces somebody looks at; −1 where at none: while they speak, and in long silence.

    Args:
        others_speak: (N, T) bool: who of them speaks.
        speaks: (T,) bool: whether they speak themselves.
        reaction: frames until they look.
        stays: frames of silence after which they look no more.
    """
    at, since, targets = -1, 0, []
    for frame in range(len(speaks)):
        speaking = others_speak[:, max(frame - reaction, 0)]
        if bool(speaks[frame]):
            at = -1
        elif bool(speaking.any()):
            at, since = (at if at >= 0 and bool(speaking[at]) else int(speaking.float().argmax())), 0
        else:
            since += 1
            at = -1 if since > stays else at
        targets.append(at)
    return torch.tensor(targets)
