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
from ...types import MOUTH_PARAMETERS, SPEECH_RATE_HZ, MouthCurves, Speech
from .closures import Closures, add_closures, closed_frames
from .kokoro import HELD_OUT_SPEAKER, kokoro_voice
from .phones import SILENCE
from .speech_corpus import HELD_OUT, join_utterances, level_db, speak_texts
from .synthesisers import FESTIVAL, FLITE, Utterance, Voice
from .trajectories import RATE_HZ, Phone, split_phones, trajectories
from .vary_voice import SpokenClip

FPS = Fraction(50)
CENTRE_S = 0.02  # a closure counts within this of the sound's middle
AWAY_S = 0.15  # silence counts from this far from speech
SHORT_PAUSES = 30  # of a speaker, that are cut between utterances


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
    labiodentals: float  # share of /f v/ with a tucked lip
    num_labiodentals: int
    vowels: float  # share of vowels in whose middle lips are closed, by mistake
    short_pauses: float  # share of pauses of 100 to 200 ms in which lips come to rest


def held_out_voices() -> list[Voice]:
    """Voices of the held-out speakers."""
    debian = [voice for voice in (*FLITE, *FESTIVAL) if voice.name in HELD_OUT]
    return [*debian, kokoro_voice("en", HELD_OUT_SPEAKER)]


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
    utterances: list[Utterance] = []
    while len(spoken) < clips:
        utterances += (said := speak_texts(voice, 8, random))
        spoken += list(join_utterances(said, random))
    return judge_clips(voice.name, spoken[:clips], network, with_short_pauses(utterances[:SHORT_PAUSES], random))


def with_short_pauses(utterances: Sequence[Utterance], random: np.random.Generator) -> list[SpokenClip]:
    """Clips of four utterances without their own silence, and a pause of 0.11 to 0.19 s after each."""
    clips = []
    for first in range(0, len(utterances) - 3, 4):
        parts, phones, at = [], [], 0
        for utterance in utterances[first : first + 4]:
            sounds = split_phones(list(utterance.phones), utterance.voice.phone_set)
            spoken = [i for i, symbol in enumerate(sounds.symbols) if symbol != SILENCE]
            start, end = (
                round(edge * SPEECH_RATE_HZ) for edge in (sounds.start_s[spoken[0]], sounds.end_s[spoken[-1]])
            )
            part, pause = utterance.speech.waveform.numpy()[start:end], int(random.uniform(0.11, 0.19) * SPEECH_RATE_HZ)
            shift = (at - start) / SPEECH_RATE_HZ
            phones += [Phone(sounds.symbols[i], sounds.start_s[i] + shift, sounds.end_s[i] + shift) for i in spoken]
            at += len(part) + pause
            phones.append(Phone(SILENCE, phones[-1].end_s, at / SPEECH_RATE_HZ))
            parts += [part, np.zeros(pause, np.float32)]
        speech = Speech(torch.from_numpy(np.concatenate(parts)))
        clips.append(SpokenClip(speech, split_phones(phones, "ipa"), utterances[first].voice))
    return clips


def judge_clips(
    name: str, spoken: Sequence[SpokenClip], network: Path | None = None, paused: Sequence[SpokenClip] = ()
) -> HeldOutScore:
    """Score the engine's mouth curves on clips against their targets, and on others in short pauses."""
    rs, still, closures, pauses = [], [], Closures(), Closures()
    for clip in spoken:
        predicted, times = _predicted(clip, network)
        true = _true_curves(clip, times)
        rs.append([_r(getattr(predicted, column), getattr(true, column)) for column in MOUTH_PARAMETERS[:4]])
        add_closures(closures, predicted, times, clip.sounds, CENTRE_S + 0.5 / float(FPS))
        still.append(closed_frames(predicted.parting)[_silent(clip, times)].float())
    for clip in paused:
        add_closures(pauses, *_predicted(clip, network), clip.sounds, CENTRE_S)
    quiet = torch.cat(still)
    opening, jaw, width, rounding = (float(r) for r in np.nanmean(np.array(rs), 0))
    seconds = sum(clip.speech.seconds for clip in spoken)
    calm = float(quiet.mean()) if len(quiet) else 1.0
    return HeldOutScore(
        name, len(spoken), seconds, opening, jaw, width, rounding, closures.share("bilabials"), calm,
        len(closures.bilabials), len(quiet), closures.share("labiodentals"), len(closures.labiodentals),
        closures.share("vowels_closed"), pauses.share("pauses"),
    )  # fmt: skip


def _predicted(clip: SpokenClip, network: Path | None) -> tuple[MouthCurves, Tensor]:
    mouth = predict_mouth(clip.speech, MotionOptions(fps=FPS, breath=0), network)
    return mouth, frame_times_s(len(mouth), FPS)


def _true_curves(clip: SpokenClip, times_s: Tensor) -> MouthCurves:
    target = trajectories(clip.sounds, clip.speech.seconds, level_db(clip.speech.waveform.numpy()))
    return MouthCurves(*(sample_at(column, RATE_HZ, times_s) for column in torch.from_numpy(target).T))


def _r(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _silent(clip: SpokenClip, times_s: Tensor) -> Tensor:
    """(T,) bool: inside a pause and away from its ends."""
    silent = torch.zeros(len(times_s), dtype=torch.bool)
    sounds = clip.sounds
    for symbol, start, end in zip(sounds.symbols, sounds.start_s, sounds.end_s, strict=True):
        if symbol == SILENCE:
            silent |= (times_s >= start + AWAY_S) & (times_s <= end - AWAY_S)
    return silent
