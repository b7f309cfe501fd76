"""Articulatory trajectories of lips and jaw from timed phones, by dominance functions.

Every sound pulls each parameter towards its target with a strength that falls off exponentially before and after it;
the movement is their weighted mean. Strength reaches further ahead than behind (speakers prepare for what comes), less
far in fast speech, and short or weak vowels do not reach their targets.
Source: Cohen and Massaro, Modeling coarticulation in synthetic visual speech, 1993.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...types import MOUTH_PARAMETERS
from .phones import SILENCE, SOUNDS, to_sounds

RATE_HZ = 100
USUAL_SOUND_S = 0.075  # at this mean length of a sound the reaches below hold
# fmt: off
#           opening  jaw   width  rounding raise  tuck  press
AHEAD_S  = (0.034,  0.045, 0.075,  0.095, 0.050, 0.025, 0.016)  # time in which strength falls by e, before a sound
BEHIND_S = (0.032,  0.042, 0.055,  0.065, 0.045, 0.022, 0.014)  # and after it
LEAD_S   = (0.030,  0.030, 0.050,  0.060, 0.030, 0.015, 0.008)  # how long lips are ahead of the sound
# fmt: on
CORE_SHARE = 0.5  # of a sound's length, around its middle, in which it pulls with full strength
REACH_TARGET_S = 0.055  # a vowel of this length comes 63 % of the way to its target
REST_OPENING = 0.30  # where short vowels stay
BACKGROUND = 1e-3  # pull towards rest where nothing else does
EFFORT_DB = 9.0  # a vowel that much louder than the clip's vowels opens wider by EFFORT
EFFORT = 0.2
PAUSE_OPENING, PAUSE_S = (
    0.05,
    0.4,
)  # a short pause leaves the lips just apart; a longer one less, as exp(−length / PAUSE_S)


@dataclass(frozen=True)
class Phone:
    """One phone of an utterance."""

    symbol: str  # as the synthesiser names it
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sounds:
    """Timed IPA sounds of an utterance, diphthongs and affricates split."""

    symbols: tuple[str, ...]
    start_s: np.ndarray  # (N,)
    end_s: np.ndarray  # (N,)


def split_phones(phones: list[Phone], phone_set: str) -> Sounds:
    """IPA sounds of a synthesiser's phones; consecutive pauses are merged."""
    symbols: list[str] = []
    starts: list[float] = []
    ends: list[float] = []
    for phone in phones:
        parts = to_sounds(phone.symbol, phone_set)
        edges = np.linspace(phone.start_s, max(phone.end_s, phone.start_s + 1e-3), len(parts) + 1)
        for part, start, end in zip(parts, edges[:-1], edges[1:], strict=True):
            if part == SILENCE and symbols and symbols[-1] == SILENCE:
                ends[-1] = float(end)
                continue
            symbols.append(part)
            starts.append(float(start))
            ends.append(float(end))
    return Sounds(tuple(symbols), np.array(starts), np.array(ends))


def trajectories(sounds: Sounds, seconds: float, level_db: np.ndarray | None = None) -> np.ndarray:
    """Articulatory trajectories of all parameters over an utterance.

    Args:
        sounds: what is said and when.
        seconds: length of the utterance.
        level_db: (M,) loudness at 100 Hz; louder vowels open wider. None: all alike.

    Returns:
        (M, 7) float32 at 100 Hz, sample i at i · 10 ms; columns as MOUTH_PARAMETERS.
    """
    times = np.arange(int(seconds * RATE_HZ + 1e-6) + 1) / RATE_HZ
    if not sounds.symbols:
        return np.zeros((len(times), len(MOUTH_PARAMETERS)), np.float32)
    table = [SOUNDS[symbol] for symbol in sounds.symbols]
    lengths = sounds.end_s - sounds.start_s
    targets = np.array([sound.targets for sound in table])
    dominance = np.array([sound.dominance for sound in table])
    vowels = np.array([sound.vowel for sound in table])
    spoken = np.array([symbol != SILENCE for symbol in sounds.symbols])
    targets[~spoken, :2] = PAUSE_OPENING * np.exp(-lengths[~spoken] / PAUSE_S)[:, None]
    targets[:, :2] = _undershot(targets[:, :2], lengths, vowels, _effort(sounds, vowels, level_db))
    pace = np.clip(np.sqrt(lengths[spoken].mean() / USUAL_SOUND_S), 0.7, 1.4) if spoken.any() else 1.0
    middles = (sounds.start_s + sounds.end_s) / 2
    result = np.empty((len(times), len(MOUTH_PARAMETERS)), np.float32)
    for column in range(len(MOUTH_PARAMETERS)):
        offsets_s = times[:, None] + LEAD_S[column] - middles
        outside = np.maximum(np.abs(offsets_s) - CORE_SHARE / 2 * lengths, 0)
        reach = pace * np.where(offsets_s < 0, AHEAD_S[column], BEHIND_S[column])
        pull = dominance[:, column] * np.exp(-outside / reach)
        result[:, column] = (pull @ targets[:, column]) / (pull.sum(1) + BACKGROUND)
    return result


def _undershot(targets: np.ndarray, lengths: np.ndarray, vowels: np.ndarray, effort: np.ndarray) -> np.ndarray:
    """(N, 2) opening and jaw that vowels of given duration and effort reach (undershoot)."""
    reached = 1 - np.exp(-lengths / REACH_TARGET_S)
    wide = REST_OPENING + (targets - REST_OPENING) * reached[:, None]
    return np.where(vowels[:, None], np.clip(wide * effort[:, None], 0, 1.3), targets)


def _effort(sounds: Sounds, vowels: np.ndarray, level_db: np.ndarray | None) -> np.ndarray:
    """(N,) factor of the opening, above 1 where a vowel is louder than the clip's vowels."""
    factors = np.ones(len(vowels))
    if level_db is None or not vowels.any():
        return factors
    spans = zip(sounds.start_s, sounds.end_s, strict=True)
    starts_ends = [(int(s * RATE_HZ), max(int(e * RATE_HZ), int(s * RATE_HZ) + 1)) for s, e in spans]
    levels = np.array([level_db[s:e].mean() if s < len(level_db) else -60.0 for s, e in starts_ends])
    above = levels - np.median(levels[vowels])
    return np.where(vowels, 1 + EFFORT * np.tanh(above / EFFORT_DB), factors)
