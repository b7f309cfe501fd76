"""Spectrograms of speech made unlike each other: onsets after silence, other throats, microphones, noise, tempo."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...engines.builtin.closure_net import SILENT
from ...engines.builtin.mouth_net import measure_mel, warp_bands
from ..mouth.trajectories import Sounds
from .labels import FRAME_S, burst_frame

CUT, NOISY, OTHER_TEMPO = 0.7, 0.6, 0.5  # shares of clips
ON_LIPS, STOPS, CONSONANTS = "pbm", "pbtdkɡ", "pbmfvtdnkɡszʃθðlɹjw"
LIPS_SHARE = 0.5  # of the sounds before which silence is put
SILENT_CLOSURE = 0.8  # share of stops whose closure is silent too
SILENCE_FRAMES = (15, 60)
THROAT, TEMPO = 0.1, 0.15  # deviations of the logarithm of the factors
EQUAL_DB, SNR_DB = 12.0, (8.0, 50.0)
_NEPER = math.log(10) / 10  # per decibel of power


def varied(mel: Tensor, classes: Tensor, sounds: Sounds, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Another clip from one.

    Args:
        mel: (M, 80) decibels.
        classes: (M,) as of `frame_classes`.
        sounds: what is said and when.
        random: chooses the way.

    Returns:
        (K, 80) half precision, normalised; (K,) classes.
    """
    mel = mel.float()
    if random.uniform() < CUT:
        mel, classes = _with_silences(mel, classes, sounds, random)
    mel = warp_bands(mel, float(np.clip(np.exp(random.normal(0, THROAT)), 0.75, 1.3)))
    mel = mel + _smooth_spectrum(random, 7, 3.0).clamp(-EQUAL_DB, EQUAL_DB)
    if random.uniform() < NOISY:
        loud = torch.quantile(mel[:, ::4].mean(1), 0.95)
        noise = loud - float(random.uniform(*SNR_DB)) + _smooth_spectrum(random, 5, 4.0)
        noise = noise + torch.from_numpy(random.normal(0, 2, mel.shape)).float()
        mel = torch.logaddexp(mel * _NEPER, noise * _NEPER) / _NEPER
    if random.uniform() < OTHER_TEMPO:
        mel, classes = _other_tempo(mel, classes, float(np.exp(random.normal(0, TEMPO))))
    return measure_mel(mel).normalise(mel).half(), classes


def _with_silences(mel: Tensor, classes: Tensor, sounds: Sounds, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Silence before some consonants, above all those of the lips, as at the beginning of a sentence."""
    level = mel[:, ::4].mean(1)
    floor = mel[level <= torch.quantile(level, 0.03) + 1].mean(0)
    spans = [
        (symbol, start, end)
        for symbol, start, end in zip(sounds.symbols, sounds.start_s, sounds.end_s, strict=True)
        if symbol and symbol in CONSONANTS and end / FRAME_S < len(mel) - 5
    ]
    on_lips = [span for span in spans if span[0] in ON_LIPS]
    mel, classes = mel.clone(), classes.clone()
    for _ in range(int(random.integers(1, 4)) if spans else 0):
        pool = on_lips if on_lips and random.uniform() < LIPS_SHARE else spans
        symbol, start, end = pool[random.integers(len(pool))]
        first = cut = max(0, round(start / FRAME_S) - 1)
        if symbol in STOPS and random.uniform() < SILENT_CLOSURE:
            cut = burst_frame(mel.mean(1).numpy(), first, round(end / FRAME_S)) or first
        begin = max(0, cut - int(random.integers(*SILENCE_FRAMES)))
        mel[begin:cut] = floor + torch.from_numpy(random.normal(0, 1.5, (max(0, cut - begin), mel.shape[1]))).float()
        classes[begin : max(begin, first)] = SILENT
    return mel, classes


def _smooth_spectrum(random: np.random.Generator, knots: int, step_db: float) -> Tensor:
    """(80,) decibels that wander along frequency, 0 in the mean of the knots."""
    walk = np.cumsum(random.normal(0, step_db, knots))
    return torch.from_numpy(np.interp(np.linspace(0, knots - 1, 80), np.arange(knots), walk - walk.mean())).float()


def _other_tempo(mel: Tensor, classes: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    source = np.linspace(0, len(mel) - 1, max(2, int(len(mel) * factor)))
    low = np.minimum(source.astype(int), len(mel) - 2)
    share = torch.from_numpy(source - low).float()[:, None]
    return torch.lerp(mel[low], mel[low + 1], share), classes[torch.from_numpy(source.round().astype(int))]
