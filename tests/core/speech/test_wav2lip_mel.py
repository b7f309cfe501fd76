import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from portraittalk_core.errors import InputError
from portraittalk_core.speech import wav2lip_mel as module
from portraittalk_core.speech.wav2lip_mel import CHUNK_LEAD, SILENCE, mel_chunks, padded_length, wav2lip_mel
from portraittalk_core.types import Speech


def noise(samples: int, seed: int = 0) -> Speech:
    return Speech(0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)))


def slaney_edges_hz() -> np.ndarray:
    """82 edges even on Slaney's scale from 55 to 7600 Hz: 200/3 Hz a step up to 1 kHz, then 27 steps a ratio of 6.4."""
    last = 15 + 27 * math.log(7.6) / math.log(6.4)
    steps = np.linspace(55 * 3 / 200, last, 82)
    return np.array([s * 200 / 3 if s < 15 else 1000 * 6.4 ** ((s - 15) / 27) for s in steps])


def by_hand(waveform: np.ndarray, mode: str) -> np.ndarray:
    """librosa's formula by NumPy and SciPy, one column at a time."""
    edges, bins = slaney_edges_hz(), np.arange(401) * 20.0
    bands = zip(edges[:-2], edges[1:-1], edges[2:], strict=True)
    filters = [2 / (c - a) * np.interp(bins, [a, b, c], [0, 1, 0]) for a, b, c in bands]
    y = np.pad(lfilter([1, -0.97], [1], waveform.astype(np.float64)), 400, mode=mode)
    window = np.sin(np.pi * np.arange(800) / 800) ** 2
    columns = [np.abs(np.fft.rfft(y[i : i + 800] * window)) for i in range(0, len(y) - 799, 200)]
    decibels = 20 * np.log10(np.maximum(1e-5, np.array(filters) @ np.array(columns).T)) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("samples", [801, 16000, 81_234])
def test_mel_matches_librosas_formula(mode, samples):
    speech = noise(samples)
    expected = by_hand(speech.waveform.numpy(), mode)
    actual = wav2lip_mel(speech, mode)
    assert actual.shape == expected.shape
    assert np.abs(actual.numpy() - expected).max() < 1e-5


def test_pad_modes_differ_in_the_outermost_two_columns_alone():
    differs = (wav2lip_mel(noise(16000), "constant") - wav2lip_mel(noise(16000), "reflect")).abs().amax(0)
    assert differs[[0, 1, -2, -1]].min() > 1e-3
    assert not differs[2:-2].any()


def test_mel_of_silence_is_the_lowest_value():
    assert torch.equal(wav2lip_mel(Speech(torch.zeros(16000))), torch.full((80, 81), SILENCE))


def test_mel_of_a_tone_is_the_published_value():
    """Value of a float64 run of librosa's formula."""
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(48000) / 16000)
    column = wav2lip_mel(Speech(tone))[:, 100]
    assert int(column.argmax()) == 10
    assert float(column.max()) == pytest.approx(1.98976, abs=1e-4)


def test_mel_does_not_depend_on_the_blocks(monkeypatch):
    whole = wav2lip_mel(noise(20_000), "reflect")
    monkeypatch.setattr(module, "BLOCK", 7)
    assert torch.equal(wav2lip_mel(noise(20_000), "reflect"), whole)


@pytest.mark.parametrize("samples", [1, 2, 640, 641, 4000, 48000])
def test_every_frame_has_its_chunk(samples):
    frames = math.ceil(samples / 640)
    speech = noise(samples)
    padded = torch.nn.functional.pad(speech.waveform, (0, padded_length(samples) - samples))
    mel = wav2lip_mel(Speech(padded))
    expected = [mel[:, int(k * 3.2) : int(k * 3.2) + 16] for k in range(frames)]
    assert padded_length(samples) - samples >= 3200
    assert torch.equal(mel_chunks(speech, 0, frames), torch.stack(expected))


def test_chunks_are_the_same_whichever_are_asked_for():
    speech = noise(64_000)
    assert torch.equal(mel_chunks(speech, 0, 100)[37:52], mel_chunks(speech, 37, 52))


def test_the_chunk_of_a_frame_is_the_one_around_its_middle():
    for frame in (2, 9, 20):
        click = torch.zeros(16_000)
        click[int((frame + 0.5) * 640)] = 1
        loud = (mel_chunks(Speech(click), 0, 25) - SILENCE).sum(1)
        middle = (loud * torch.arange(16)).sum(1) / loud.sum(1).clamp(min=1e-3)
        assert int((middle - 7.5).abs().argmin()) == frame - CHUNK_LEAD


@pytest.mark.parametrize("samples", [1, 300])
def test_the_shortest_clips_have_a_mel_in_any_mode(samples):
    for mode in ("constant", "reflect"):
        assert wav2lip_mel(noise(samples), mode).shape == (80, samples // 200 + 1)


def test_unknown_pad_mode_is_refused():
    with pytest.raises(InputError, match="pad_mode.*constant, reflect.*'wrap'"):
        wav2lip_mel(noise(800), "wrap")
