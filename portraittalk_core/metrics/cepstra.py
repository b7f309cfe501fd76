"""Mel-frequency cepstra as SyncNet was trained on them: those of python_speech_features with its defaults.

What is unusual is on purpose: a rectangular window, a filterbank on whole FFT bins, the last part of a frame filled
with zeros, and the log of the frame's energy in place of the first cepstrum.
Shapes: N samples, M frames of 10 ms.
Source: python_speech_features' documentation; Davis and Mermelstein 1980.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..types import SPEECH_RATE_HZ

NUM_CEPSTRA, NUM_FILTERS, FFT = 13, 26, 512
FRAME, HOP = 400, 160  # samples: 25 and 10 ms
PRE_EMPHASIS, LIFTER = 0.97, 22
FULL_SCALE = 32_768  # of 16-bit sound, which SyncNet was trained on
CHUNK = 4096  # frames at a time: long sound in flat memory
TINY = torch.finfo(torch.float64).eps  # in place of zero energy


def cepstra(waveform: Tensor) -> Tensor:
    """13 cepstra every 10 ms.

    Args:
        waveform: (N,) at 16 kHz, −1..1; taken as 16-bit numbers.

    Returns:
        (M, 13) float64; M = 1 + ⌈(N − 400) / 160⌉, at least 1.

    Raises:
        InputError: no samples, or values that are not numbers.
    """
    check_finite(check_shape(waveform, "N", "the waveform"), "the waveform")
    if not len(waveform):
        raise InputError("the waveform holds no samples; give sound.")
    count = 1 + max(0, math.ceil((len(waveform) - FRAME) / HOP))
    return torch.cat([_of_span(waveform, start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)])


def _of_span(waveform: Tensor, first: int, last: int) -> Tensor:
    """Cepstra of frames first..last−1; the sample before the first is needed, and zeros beyond the end."""
    start, stop = first * HOP, (last - 1) * HOP + FRAME
    samples = waveform[max(start - 1, 0) : stop].double()
    signal = (samples * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
    emphasised = signal[1:] - PRE_EMPHASIS * signal[:-1]
    signal = torch.cat([signal[:1], emphasised]) if first == 0 else emphasised
    return _of_frames(F.pad(signal, (0, stop - start - len(signal))).unfold(0, FRAME, HOP))


def _of_frames(frames: Tensor) -> Tensor:
    power = torch.fft.rfft(frames, FFT).abs().square() / FFT
    energy = _above_zero(power.sum(1)).log()
    coefficients = _above_zero(power @ _filters().T).log() @ _cosines().T
    coefficients = coefficients * (1 + LIFTER / 2 * torch.sin(math.pi * torch.arange(NUM_CEPSTRA) / LIFTER))
    return torch.cat([energy[:, None], coefficients[:, 1:]], 1)


def _above_zero(values: Tensor) -> Tensor:
    return torch.where(values == 0, torch.full_like(values, TINY), values)


@cache
def _filters() -> Tensor:
    """(26, 257) triangles, evenly spread in mel from 0 to 8 kHz, their corners on whole bins."""
    top = 2595 * math.log10(1 + SPEECH_RATE_HZ / 2 / 700)
    hz = 700 * (10 ** (torch.linspace(0, top, NUM_FILTERS + 2, dtype=torch.float64) / 2595) - 1)
    corners = ((FFT + 1) * hz / SPEECH_RATE_HZ).floor()
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = torch.arange(FFT // 2 + 1, dtype=torch.float64)
    rise, fall = (bins - low) / (peak - low), (high - bins) / (high - peak)
    up, down = (bins >= low) & (bins < peak), (bins >= peak) & (bins < high)
    return torch.where(up, rise, torch.where(down, fall, torch.zeros_like(rise)))


@cache
def _cosines() -> Tensor:
    """(13, 26) the orthonormal cosine transform, second kind."""
    order = torch.arange(NUM_CEPSTRA, dtype=torch.float64)[:, None]
    at = torch.arange(NUM_FILTERS, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi * order * at / NUM_FILTERS) * math.sqrt(2 / NUM_FILTERS)
    waves[0] /= math.sqrt(2)
    return waves
