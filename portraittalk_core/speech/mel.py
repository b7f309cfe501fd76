"""Log-mel spectrogram of speech, computed in blocks so that memory does not grow with the clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from ..types import SPEECH_RATE_HZ, Speech

NUM_MELS = 80
MEL_RATE_HZ = 100  # frames per second; frame i is centred on i · 10 ms
FFT_SIZE, WINDOW_SIZE, HOP = 512, 400, SPEECH_RATE_HZ // MEL_RATE_HZ
LOW_HZ, HIGH_HZ = 50.0, 7600.0
FLOOR = 1e-9  # power; −90 dB
BLOCK = 250  # frames computed at once: 2.5 s


@cache
def mel_filters() -> Tensor:
    """(80, 257) triangular filters on the HTK mel scale, 50..7600 Hz."""
    # by hand: to import a library that has them takes longer than a sentence's whole motion
    edges = _edges_hz()
    bins = torch.linspace(0, SPEECH_RATE_HZ / 2, FFT_SIZE // 2 + 1, dtype=torch.float64)
    above, widths = bins - edges[:, None], edges.diff()[:, None]
    rising, falling = above[:-2] / widths[:-1], -above[2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0).float().contiguous()


@cache
def mel_centres_hz() -> Tensor:
    """(80,) frequency at which each filter peaks."""
    return _edges_hz()[1:-1].float()


def _edges_hz() -> Tensor:
    """(82,) where the filters begin, peak and end, evenly on the mel scale.

    Source: O'Shaughnessy, "Speech Communication", 1987: mel = 2595 log10(1 + f / 700).
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    return 700 * (10 ** (torch.linspace(low, high, NUM_MELS + 2, dtype=torch.float64) / 2595) - 1)


def iterate_log_mel(speech: Speech) -> Iterator[Tensor]:
    """Blocks of (≤ 250, 80) log-mel frames in decibels, 100 a second, one per started 10 ms and one more.

    Windows at the ends see silence beyond the clip.
    """
    waveform, window, filters = speech.waveform, torch.hann_window(WINDOW_SIZE), mel_filters()
    half = FFT_SIZE // 2
    total = waveform.numel() // HOP + 1
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        first, last = start * HOP - half, (stop - 1) * HOP + half
        piece = waveform[max(first, 0) : max(min(last, waveform.numel()), 0)]
        padded = torch.nn.functional.pad(piece, (max(-first, 0), max(last - waveform.numel(), 0)))
        spectrum = torch.stft(padded, FFT_SIZE, HOP, WINDOW_SIZE, window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        yield 10 * (filters @ power).clamp(min=FLOOR).log10().T


def log_mel(speech: Speech) -> Tensor:
    """(samples // 160 + 1, 80) log-mel spectrogram in decibels, 100 frames a second."""
    mel = torch.empty(speech.waveform.numel() // HOP + 1, NUM_MELS)  # filled in place: a long clip is held once
    start = 0
    for block in iterate_log_mel(speech):
        mel[start : start + len(block)] = block
        start += len(block)
    return mel


def level_of_bands(mel: Tensor, bands_hz: tuple[tuple[float, float], ...]) -> Tensor:
    """(M, bands) decibels: mean level of some frequency bands in (M, 80) decibels."""
    centres = mel_centres_hz()
    masks = torch.stack([(centres >= low) & (centres < high) for low, high in bands_hz]).float()
    average = (masks / masks.sum(1, keepdim=True).clamp(min=1)).T
    return 10 * (10 ** (mel / 10) @ average).log10()


def band_levels(speech: Speech, bands_hz: tuple[tuple[float, float], ...]) -> Tensor:
    """Mean level of some frequency bands, the compact form that a whole long clip is kept in.

    Args:
        speech: the clip.
        bands_hz: lower and upper edge of each band.

    Returns:
        (samples // 160 + 1, bands) decibels, 100 frames a second.
    """
    return torch.cat([level_of_bands(block, bands_hz) for block in iterate_log_mel(speech)])
