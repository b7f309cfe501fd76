"""Evaluation of a mouth network on synthesised held-out speakers with known articulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...engines.builtin.mouth import predict_mouth
from ...motion.options import MotionOptions
from ...motion.smoothing import frame_times_s, sample_at
from ...types import MOUTH_PARAMETERS, MouthCurves
from .phones import SILENCE
from .speech_corpus import HELD_OUT, SpokenClip, join_utterances, level_db, speak_texts
from .synthesisers import FESTIVAL, FLITE, Voice
from .trajectories import RATE_HZ, trajectories

FPS = Fraction(50)
CLOSED = 0.1  # of the clip's range of parting, 1st to 99th percentile
CENTRE_S = 0.02  # a closure counts within this of the sound's middle
AWAY_S = 0.15  # silence counts from this far from speech
BILABIALS = ("p", "b", "m")


@dataclass(frozen=True)
class HeldOutScore:
    """Scores of one held-out speaker."""

    voice: str
    clips: int
    seconds: float
    opening: float  # mean over clips of Pearson's r with the articulatory target
    jaw: float
    width: float
    rounding: float
    bilabials: float  # share of /p b m/ with closed lips
    silence: float  # share of silent frames with closed lips
    num_bilabials: int
    num_silent_frames: int


def held_out_voices() -> list[Voice]:
    """Voices of the held-out speakers."""
    return [voice for voice in (*FLITE, *FESTIVAL) if voice.name in HELD_OUT]


def judge_voice(voice: Voice, clips: int = 12, seed: int = 1, network: Path | None = None) -> HeldOutScore:
    """Synthesise new text of a speaker, and score the engine's mouth curves against the articulatory targets.

    Args:
        voice: who speaks.
        clips: of one to three utterances.
        seed: of text, rate and pitch.
        network: as for `predict_mouth`.

    Raises:
        MissingDependency: the synthesiser is not installed.
    """
    random = np.random.default_rng([seed, 0x4E1D])
    spoken: list[SpokenClip] = []
    while len(spoken) < clips:
        spoken += list(join_utterances(speak_texts(voice, 8, random), random))
    return judge_clips(voice.name, spoken[:clips], network)


def judge_clips(name: str, spoken: Sequence[SpokenClip], network: Path | None = None) -> HeldOutScore:
    """Score the engine's mouth curves on clips against their targets (see `judge_voice`)."""
    rs, shut, still = [], [], []
    for clip in spoken:
        options = MotionOptions(fps=FPS)
        predicted = predict_mouth(clip.speech, options, network)
        times = frame_times_s(len(predicted), FPS)
        true = _true_curves(clip, times)
        rs.append([_r(getattr(predicted, column), getattr(true, column)) for column in MOUTH_PARAMETERS[:4]])
        parting = predicted.parting
        low, high = torch.quantile(parting, torch.tensor([0.01, 0.99]))
        closed = parting - low < CLOSED * (high - low).clamp(min=1e-3)
        shut += _bilabials_closed(clip, closed, times)
        still.append(closed[_silent(clip, times)].float())
    quiet = torch.cat(still)
    opening, jaw, width, rounding = (float(r) for r in np.nanmean(np.array(rs), 0))
    seconds = sum(clip.speech.seconds for clip in spoken)
    share, calm = float(np.mean(shut)) if shut else 1.0, float(quiet.mean()) if len(quiet) else 1.0
    return HeldOutScore(
        name, len(spoken), seconds, opening, jaw, width, rounding, share, calm, len(shut), len(quiet)
    )  # fmt: skip


def _true_curves(clip: SpokenClip, times_s: Tensor) -> MouthCurves:
    target = trajectories(clip.sounds, clip.speech.seconds, level_db(clip.speech.waveform.numpy()))
    return MouthCurves(*(sample_at(column, RATE_HZ, times_s) for column in torch.from_numpy(target).T))


def _r(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _bilabials_closed(clip: SpokenClip, closed: Tensor, times_s: Tensor) -> list[bool]:
    """For every bilabial, whether the lips are closed around its middle."""
    sounds = clip.sounds
    middles = (sounds.start_s + sounds.end_s) / 2
    centres_s = [float(at) for symbol, at in zip(sounds.symbols, middles, strict=True) if symbol in BILABIALS]
    windows = [(times_s - at).abs() <= CENTRE_S + 0.5 / float(FPS) for at in centres_s if at < clip.speech.seconds]
    return [bool(closed[frames].any()) for frames in windows]


def _silent(clip: SpokenClip, times_s: Tensor) -> Tensor:
    """(T,) bool: inside a pause and away from its ends."""
    silent = torch.zeros(len(times_s), dtype=torch.bool)
    sounds = clip.sounds
    for symbol, start, end in zip(sounds.symbols, sounds.start_s, sounds.end_s, strict=True):
        if symbol == SILENCE:
            silent |= (times_s >= start + AWAY_S) & (times_s <= end - AWAY_S)
    return silent
