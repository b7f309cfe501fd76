"""Random degradation of speech for augmentation: rooms, microphones, noise and codecs."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from scipy.signal import butter, fftconvolve, sosfilt
from torch import Tensor

RATE_HZ = 16_000
CODECS = (("mp3", "mp3", 32_000), ("ogg", "libopus", 12_000), ("ogg", "libopus", 24_000), ("adts", "aac", 32_000))


def vary_effort(waveform: np.ndarray, random: np.random.Generator, depth_db: float = 7.0) -> np.ndarray:
    """Vary the vocal effort of syllables by a slow random gain.

    Args:
        waveform: (N,) at 16 kHz.
        random: chooses where.
        depth_db: standard deviation of the gain.

    Returns:
        (N,) the same with a gain that moves two or three times a second, sounding brighter where louder.
    """
    count = max(4, int(len(waveform) / RATE_HZ * random.uniform(2.0, 3.5)))
    gain_db = np.clip(random.normal(0, depth_db / 2, count), -depth_db, depth_db)
    curve = np.interp(np.linspace(0, count - 1, len(waveform)), np.arange(count), gain_db)
    bright = np.append(waveform[:1], waveform[1:] - 0.9 * waveform[:-1])
    share = 0.25 * np.clip(curve / depth_db, -1, 1)
    return ((waveform + share * bright) * 10 ** (curve / 20)).astype(np.float32)


def degrade(waveform: np.ndarray, random: np.random.Generator, babble: np.ndarray | None = None) -> np.ndarray:
    """Degrade speech by a random recording chain.

    Args:
        waveform: (N,) clean speech at 16 kHz.
        random: chooses the way.
        babble: (M,) other people's speech to mix in at times.

    Returns:
        (N,) float32, −1..1.
    """
    level = float(np.sqrt(np.mean(waveform**2))) + 1e-6
    if random.uniform() < 0.35:
        waveform = _room(waveform, random)
    waveform = _equalise(waveform, random)
    if random.uniform() < 0.12:
        low, high = random.uniform(150, 400), random.uniform(2800, 4500)
        waveform = sosfilt(butter(3, [low, high], "bandpass", fs=RATE_HZ, output="sos"), waveform)
    if random.uniform() < 0.65:
        bed = noise(len(waveform), random, babble)
        snr_db = random.uniform(3, 40)
        bed *= level / (float(np.sqrt(np.mean(bed**2))) + 1e-9) * 10 ** (-snr_db / 20)
        waveform = waveform + bed
    peak = float(np.abs(waveform).max()) + 1e-6
    waveform = waveform / peak * 10 ** (random.uniform(-30, 0) / 20)
    if random.uniform() < 0.08:
        waveform = np.clip(waveform * 10 ** (random.uniform(3, 14) / 20), -0.3, 0.3)
    if random.uniform() < 0.1:
        waveform = through_codec(waveform.astype(np.float32), *CODECS[random.integers(len(CODECS))])
    return np.clip(waveform, -1, 1).astype(np.float32)


def through_codec(waveform: np.ndarray, container: str, codec: str, bit_rate: int) -> np.ndarray:
    """(N,) sound after a lossy codec, aligned with the original."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE_HZ if codec != "libopus" else 48_000, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(waveform[None], "fltp", "mono")
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(stream.codec_context.format, "mono", stream.codec_context.sample_rate)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        resampler = av.AudioResampler("fltp", "mono", RATE_HZ)
        parts = [part.to_ndarray()[0] for frame in source.decode(audio=0) for part in resampler.resample(frame)]
    decoded = np.concatenate(parts) if parts else waveform
    return _aligned(decoded, waveform)


def _aligned(decoded: np.ndarray, original: np.ndarray, reach: int = 3000) -> np.ndarray:
    """Remove the delay that a codec added to a sound."""
    size = min(len(decoded), len(original), 4 * RATE_HZ)
    match = fftconvolve(decoded[:size], original[:size][::-1])
    middle = size - 1
    delay = int(np.abs(match[middle - reach : middle + reach]).argmax()) - reach if size > reach else 0
    shifted = decoded[delay:] if delay > 0 else np.pad(decoded, (-delay, 0))
    return np.pad(shifted, (0, max(0, len(original) - len(shifted))))[: len(original)]


def _room(waveform: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Reverberation: direct sound and an exponentially decaying tail."""
    decay_s = random.uniform(0.12, 0.7)
    size = int(decay_s * RATE_HZ)
    tail = random.normal(0, 1, size) * np.exp(-6.9 * np.arange(size) / size)
    tail *= random.uniform(0.15, 0.9) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[: int(0.002 * RATE_HZ)] = 0
    tail[0] = 1.0
    return fftconvolve(waveform, tail)[: len(waveform)]


def _equalise(waveform: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A smooth random frequency response within ±12 dB."""
    spectrum = np.fft.rfft(waveform)
    octaves = np.log2(np.maximum(np.linspace(0, RATE_HZ / 2, len(spectrum)), 60) / 60)
    knots = np.cumsum(random.normal(0, 3.0, 9))
    response_db = np.clip(np.interp(octaves, np.arange(9), knots - knots.mean()), -12, 12)
    return np.fft.irfft(spectrum * 10 ** (response_db / 20), len(waveform))


def noise(size: int, random: np.random.Generator, babble: np.ndarray | None = None) -> np.ndarray:
    """(N,) one kind of noise, of any level: coloured, hum, music, or other people's speech where `babble` is given."""
    kind = random.choice(["coloured", "coloured", "hum", "music", "babble"])
    if kind == "babble" and babble is not None and len(babble):
        return np.resize(np.roll(babble, int(random.integers(len(babble)))), size).astype(np.float64)
    if kind == "music":
        return music_bed(size, random)
    if kind == "hum":
        times = np.arange(size) / RATE_HZ
        base = random.choice([50, 60])
        hum = sum(random.uniform(0, 1) / n * np.sin(2 * np.pi * base * n * times) for n in range(1, 12))
        return hum + 0.05 * random.normal(0, 1, size)
    spectrum = np.fft.rfft(random.normal(0, 1, size))
    slope = random.uniform(0, 1.2)  # 0 white, 0.5 pink, 1 brown
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** slope, size)


def music_bed(size: int, random: np.random.Generator) -> np.ndarray:
    """(N,) chords of struck and held notes, and a beat, without a voice."""
    bed, beat = np.zeros(size), int(RATE_HZ * random.uniform(0.3, 0.7))
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) if random.uniform() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
    root = random.uniform(80, 220)
    for start in range(0, size, beat):
        span = min(int(beat * random.uniform(0.8, 3.0)), size - start)
        times = np.arange(span) / RATE_HZ
        envelope = np.exp(-times * random.uniform(0.5, 5))
        for step in random.choice(len(scale), 3, replace=False):
            pitch = root * 2 ** (scale[step] / 12 + random.integers(0, 3))
            for harmonic in range(1, 6):
                bed[start : start + span] += envelope * np.sin(2 * math.pi * pitch * harmonic * times) / harmonic**1.3
        if random.uniform() < 0.7:
            hit = min(int(0.08 * RATE_HZ), size - start)
            bed[start : start + hit] += 2 * random.normal(0, 1, hit) * np.exp(-np.arange(hit) / hit * 5)
    return bed


def mask_bands(mel: Tensor, random: np.random.Generator, widest: int = 12) -> Tensor:
    """(T, 80) with one random span of bands set to their mean (SpecAugment's frequency mask)."""
    width = int(random.integers(0, widest + 1))
    start = int(random.integers(0, mel.shape[1] - width + 1))
    masked = mel.clone()
    masked[:, start : start + width] = 0
    return masked if width else torch.as_tensor(mel)
