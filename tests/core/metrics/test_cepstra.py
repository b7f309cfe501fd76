import math

import numpy as np
import pytest
import torch
from scipy.fft import dct

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.cepstra import CHUNK, cepstra


def speechlike(num_samples: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed)
    times = np.arange(num_samples) / 16_000
    sound = np.sin(2 * np.pi * 140 * times) * (1 + np.sin(2 * np.pi * 3 * times)) * 4000 + 500 * noise.normal(
        size=num_samples
    )
    return sound.astype(np.int16)


def restated(signal: np.ndarray) -> np.ndarray:
    """The documented steps one frame and one filter at a time, with scipy's cosine transform."""
    signal = signal.astype(np.float64)
    signal = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    rows = []
    count = 1 if len(signal) <= 400 else 1 + math.ceil((len(signal) - 400) / 160)
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    bins = np.floor(513 * 700 * (10 ** (mel / 2595) - 1) / 16_000).astype(int)
    for number in range(count):
        frame = np.zeros(400)
        part = signal[160 * number : 160 * number + 400]
        frame[: len(part)] = part
        power = np.abs(np.fft.rfft(frame, 512)) ** 2 / 512
        heights = np.zeros(26)
        for j in range(26):
            for i in range(bins[j], bins[j + 1]):
                heights[j] += power[i] * (i - bins[j]) / (bins[j + 1] - bins[j])
            for i in range(bins[j + 1], bins[j + 2]):
                heights[j] += power[i] * (bins[j + 2] - i) / (bins[j + 2] - bins[j + 1])
        row = dct(np.log(np.where(heights == 0, np.finfo(float).eps, heights)), type=2, norm="ortho")[:13]
        row *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
        row[0] = np.log(power.sum() or np.finfo(float).eps)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("num_samples", [1, 399, 400, 401, 560, 561, 16_000])
def test_cepstra_match_the_documented_steps(num_samples):
    signal = speechlike(num_samples)
    found = cepstra(torch.from_numpy(signal / 32768).float())
    np.testing.assert_allclose(found.numpy(), restated(signal), atol=1e-7)


@pytest.mark.parametrize("num_samples", [100, 400, 8_000, 33_333])
def test_cepstra_match_python_speech_features(num_samples):
    psf = pytest.importorskip("python_speech_features")
    signal = speechlike(num_samples, seed=1)
    np.testing.assert_allclose(
        cepstra(torch.from_numpy(signal / 32768).float()).numpy(), psf.mfcc(signal, 16_000), atol=1e-7
    )


def test_cepstra_of_long_sound_are_those_of_its_parts():
    signal = torch.from_numpy(speechlike((CHUNK + 5) * 160) / 32768).float()
    start = (CHUNK - 3) * 160
    whole, part = cepstra(signal), cepstra(signal[start:])
    torch.testing.assert_close(whole[CHUNK - 2 :], part[1:])  # the first sample has nothing before it


def test_cepstra_of_silence_are_finite():
    found = cepstra(torch.zeros(1600))
    assert torch.isfinite(found).all()
    assert float(found[0, 0]) == pytest.approx(math.log(np.finfo(float).eps))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [(torch.zeros(0), "no samples"), (torch.zeros(1, 5), "shape"), (torch.full((9,), math.nan), "NaN")],
)
def test_cepstra_reject(waveform, message):
    with pytest.raises(InputError, match=message):
        cepstra(waveform)
