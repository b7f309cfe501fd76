"""Pitch tracking by autocorrelation, in blocks, and quantisation into the mel steps that networks look up.

Source: P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
sampled sound", IFA Proceedings 17 (1993): the autocorrelation of a windowed piece, divided by that of the window, and
the cheapest path through each frame's candidates. The step of 320 samples and the frame centres are those of a
spectrogram of 512 samples without padding, which is what audio2motion networks were trained beside.

Shapes: F frames, K candidates, L lags.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..progress import Progress
from ..types import SPEECH_RATE_HZ, Speech

HOP = 320  # samples between frames: 20 ms
FIRST_CENTRE = 256  # sample that frame 0 is centred on
FLOOR_HZ, CEILING_HZ = 80.0, 750.0
WINDOW = int(3 * SPEECH_RATE_HZ / FLOOR_HZ)  # three of the longest periods
FFT_SIZE = 1024  # window and longest lag fit without wrapping
OVERSAMPLING = 4  # lags between samples, by a longer inverse transform
VOICING_THRESHOLD = 0.6  # periodicity below which a frame has no pitch
SILENCE_THRESHOLD = 0.03  # of the clip's peak: quieter frames lose their pitch step by step
OCTAVE_COST = 0.01  # favours the higher of two equally good pitches, per octave
JUMP_COST = 0.35  # per octave between frames
VOICING_COST = 0.14  # for a start or an end of voice
NUM_CANDIDATES = 5
BLOCK = 250  # frames computed at once: 5 s
COARSE_LOW_HZ, COARSE_HIGH_HZ, COARSE_STEPS = 50.0, 1100.0, 255


def num_pitch_frames(num_samples: int) -> int:
    """(samples − 80) // 320, at least one: as many as speech encoders at 50 frames a second write."""
    return max((num_samples - 80) // HOP, 1)


def pitch_hz(speech: Speech, on_progress: Progress | None = None) -> Tensor:
    """Fundamental frequency of a voice.

    Args:
        speech: the clip; windows at its ends see silence beyond it.
        on_progress: called with frames done and in all, every 5 s of speech.

    Returns:
        (F,) float32 Hz, 50 a second, frame i centred on sample 320·i + 256; 0 where there is no voice.
    """
    total = num_pitch_frames(speech.waveform.numel())
    middle = speech.waveform.mean()
    peak = float((speech.waveform.max() - middle).maximum(middle - speech.waveform.min()))
    if peak < 1e-6:  # below a 16-bit step
        return torch.zeros(total)
    pitches, strengths = [], []
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        pitch, strength = _candidates(_frames(speech.waveform, start, stop), peak)
        pitches.append(pitch)
        strengths.append(strength)
        if on_progress:
            on_progress(stop, total)
    return torch.from_numpy(_cheapest_path(np.concatenate(pitches), np.concatenate(strengths))).float()


def coarse_pitch(f0: Tensor) -> Tensor:
    """Quantise pitch into 255 equal steps of the mel scale.

    Args:
        f0: (F,) Hz, 0 where there is no voice.

    Returns:
        (F,) long, 1 at and below 50 Hz .. 255 at and above 1100 Hz.

    Source: GeneFace++ (arXiv 2305.00787), pitch-aware audio-to-motion.
    """
    low, high = (1127 * math.log(1 + hz / 700) for hz in (COARSE_LOW_HZ, COARSE_HIGH_HZ))
    mel = 1127 * (1 + f0 / 700).log()
    step = (mel - low) * (COARSE_STEPS - 1) / (high - low) + 1
    return (step.clamp(1, COARSE_STEPS) + 0.5).long()


def _frames(waveform: Tensor, start: int, stop: int) -> Tensor:
    """(stop − start, WINDOW) pieces around the frames' centres, silence beyond the ends."""
    first = start * HOP + FIRST_CENTRE - WINDOW // 2
    last = (stop - 1) * HOP + FIRST_CENTRE + WINDOW - WINDOW // 2
    piece = waveform[max(first, 0) : max(min(last, waveform.numel()), 0)]
    padded = torch.nn.functional.pad(piece, (max(-first, 0), last - max(first, 0) - piece.numel()))
    return padded.unfold(0, WINDOW, HOP)


def _candidates(frames: Tensor, peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Pitches (F, 1 + K) in Hz and how well each explains its frame; the first is "no voice", 0 Hz."""
    frames = frames.double() - frames.double().mean(1, keepdim=True)
    window, window_likeness = _window()
    lags = torch.arange(window_likeness.numel(), dtype=torch.float64) / OVERSAMPLING
    likeness = _autocorrelation(frames * window) / window_likeness
    likeness = likeness / likeness[:, :1].clamp(min=1e-12)
    # local maxima; the parabola through their neighbours places them between lags
    lower, middle, upper = likeness[:, :-2], likeness[:, 1:-1], likeness[:, 2:]
    bend = (lower - 2 * middle + upper).clamp(max=-1e-12)
    lag = lags[1:-1] + 0.5 * (lower - upper) / bend / OVERSAMPLING
    height = (middle - (lower - upper).square() / (8 * bend)).clamp(max=1)
    hz = SPEECH_RATE_HZ / lag.clamp(min=1 / OVERSAMPLING)
    inside = (middle > 0) & (middle >= lower) & (middle > upper) & (hz >= FLOOR_HZ * 0.995) & (hz <= CEILING_HZ)
    strength = torch.where(inside, height + OCTAVE_COST * (hz / FLOOR_HZ).log2(), -torch.inf)
    strength, index = strength.topk(NUM_CANDIDATES, dim=1)
    # a frame much quieter than the clip is hardly voice, however periodic
    quiet = 2 - frames.abs().amax(1) / peak * (1 + VOICING_THRESHOLD) / SILENCE_THRESHOLD
    unvoiced = VOICING_THRESHOLD + quiet.clamp(min=0)
    hz = torch.cat([torch.zeros(len(frames), 1), hz.gather(1, index)], 1)
    return hz.numpy(), torch.cat([unvoiced[:, None], strength], 1).numpy()


@cache
def _window() -> tuple[Tensor, Tensor]:
    """The Hann window and its own autocorrelation (L,), 1 at lag 0."""
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    likeness = _autocorrelation(window[None])[0]
    return window, likeness / likeness[0]


def _autocorrelation(pieces: Tensor) -> Tensor:
    """(F, L) autocorrelation of (F, WINDOW) at lags 0, 1/4, 2/4, … to just past the longest period."""
    power = torch.fft.rfft(pieces, FFT_SIZE).abs().square()
    num_lags = (int(SPEECH_RATE_HZ / FLOOR_HZ) + 2) * OVERSAMPLING
    return torch.fft.irfft(power, FFT_SIZE * OVERSAMPLING)[:, :num_lags]


def _cheapest_path(pitches: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """(F,) one pitch a frame of (F, 1 + K): strong candidates, few jumps."""
    voiced = pitches > 0
    octaves = np.log2(np.where(voiced, pitches, 1.0))
    best = strengths[0]
    came_from = np.zeros(pitches.shape, dtype=np.int8)
    for frame in range(1, len(pitches)):
        now, then = voiced[frame], voiced[frame - 1]
        jump = JUMP_COST * np.abs(octaves[frame][:, None] - octaves[frame - 1])
        cost = np.where(now[:, None] & then, jump, VOICING_COST * (now[:, None] != then))
        totals = best - cost
        came_from[frame] = totals.argmax(1)
        best = totals.max(1) + strengths[frame]
    path = np.zeros(len(pitches), dtype=np.int64)
    path[-1] = best.argmax()
    for frame in range(len(pitches) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return pitches[np.arange(len(pitches)), path]
