"""Other speakers from one recording: formants and tempo changed apart from pitch, both together by resampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...types import SPEECH_RATE_HZ, Speech
from .synthesisers import Voice
from .trajectories import Sounds

FFT, HOP = 512, 128  # 32 ms, 8 ms at 16 kHz
LIFTER = 26  # cepstral coefficients of a spectral envelope: below any speaker's pitch period of 38 samples (420 Hz)
FORMANTS, TEMPO = 0.12, 0.14  # deviations of the logarithm of the factors


@dataclass(frozen=True)
class SpokenClip:
    """Speech with its sounds, before any degradation."""

    speech: Speech
    sounds: Sounds
    voice: Voice


def another_voice(clip: SpokenClip, random: np.random.Generator) -> SpokenClip:
    """The same words by a throat of another length and at another tempo."""
    formants, tempo = (float(np.exp(random.normal(0, spread))) for spread in (FORMANTS, TEMPO))
    waveform = shift_formants(clip.speech.waveform.numpy(), float(np.clip(formants, 0.75, 1.35)))
    tempo = float(np.clip(tempo, 0.7, 1.4))
    waveform = np.clip(change_tempo(waveform, tempo), -1, 1).astype(np.float32)
    sounds = Sounds(clip.sounds.symbols, clip.sounds.start_s / tempo, clip.sounds.end_s / tempo)
    return replace(clip, speech=Speech(torch.from_numpy(waveform)), sounds=sounds)


def shift_formants(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Move the spectral envelope along frequency; pitch and time stay.

    Args:
        waveform: (N,) at 16 kHz.
        factor: above 1 moves formants up, as in a shorter throat.

    Returns:
        (N,) float64.
    """
    spectra = _spectra(waveform)
    magnitude = np.log(np.abs(spectra) + 1e-7)
    cepstrum = np.fft.irfft(magnitude, axis=1)
    cepstrum[:, LIFTER : FFT - LIFTER + 1] = 0
    envelope = np.fft.rfft(cepstrum, axis=1).real
    bins = np.arange(envelope.shape[1])
    source = np.clip(bins / factor, 0, bins[-1])
    low = np.minimum(source.astype(int), bins[-1] - 1)
    share = source - low
    moved = envelope[:, low] * (1 - share) + envelope[:, low + 1] * share
    return _waveform(spectra * np.exp(moved - envelope), len(waveform))


def change_tempo(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Speak faster or slower; pitch and formants stay (overlap-add of waveforms that continue each other).

    Args:
        waveform: (N,) at 16 kHz.
        factor: above 1 is faster.

    Returns:
        (round(N / factor),) float64. Source: Verhelst and Roelands, WSOLA, ICASSP 1993.
    """
    size, reach = int(0.03 * SPEECH_RATE_HZ), int(0.008 * SPEECH_RATE_HZ)
    half, count = size // 2, round(len(waveform) / factor)
    window = np.hanning(size + 1)[:size]
    padded = np.pad(waveform.astype(np.float64), (size, 2 * size + reach))
    result, weight = np.zeros(count + 2 * size), np.zeros(count + 2 * size)
    expected = padded[:size]
    for start in range(0, count + size, half):
        middle = int(start * factor)  # of `padded`, where the piece would begin
        first = max(0, min(middle - reach, len(padded) - size - 1))
        last = min(middle + reach, len(padded) - size - half - 1)
        if last < first:
            break
        match = np.correlate(padded[first : last + size], expected, "valid")
        energy = np.convolve(np.square(padded[first : last + size]), np.ones(size), "valid")
        best = first + int((match / np.sqrt(energy + 1e-6)).argmax())
        result[start : start + size] += window * padded[best : best + size]
        weight[start : start + size] += window
        expected = padded[best + half : best + half + size]
    shift = round(size / factor)
    return (result / np.maximum(weight, 1e-3))[shift : shift + count]


def _spectra(waveform: np.ndarray) -> np.ndarray:
    padded = np.pad(waveform, (FFT, FFT))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    return np.fft.rfft(frames * np.hanning(FFT + 1)[:FFT], axis=1)


def _waveform(spectra: np.ndarray, size: int) -> np.ndarray:
    """Overlap-add of spectra; Hann windows, squared, a quarter apart, add up to 1.5."""
    window = np.hanning(FFT + 1)[:FFT]
    frames = np.fft.irfft(spectra, FFT, axis=1) * window / 1.5
    result = np.zeros(len(frames) * HOP + FFT)
    for number in range(FFT // HOP):
        part = frames[number :: FFT // HOP]
        span = result[number * HOP : number * HOP + part.size]
        span += part.reshape(-1)[: len(span)]
    return result[FFT : FFT + size]
