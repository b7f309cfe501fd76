import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from portraittalk_core.speech.mel import BLOCK, band_levels, iterate_log_mel, log_mel, mel_centres_hz
from portraittalk_core.types import Speech


def tone(hz: float, seconds: float = 1.0) -> Speech:
    return Speech(0.5 * torch.sin(2 * torch.pi * hz * torch.arange(int(16000 * seconds)) / 16000))


def noise(seconds: float) -> Speech:
    return Speech(0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(0)))


def test_log_mel_matches_transformers():
    speech = noise(0.5)
    bank = mel_filter_bank(257, 80, 50.0, 7600.0, 16000, norm=None, mel_scale="htk")
    window = window_function(400, "hann", frame_length=512, center=True)
    padded = np.pad(speech.waveform.numpy().astype(np.float64), 256)
    power = spectrogram(padded, window, 512, 160, 512, power=2.0, center=False, mel_filters=bank, mel_floor=1e-9)
    expected = torch.from_numpy(10 * np.log10(power)).T
    torch.testing.assert_close(log_mel(speech), expected.to(torch.float32), rtol=0, atol=0.02)


def test_log_mel_peaks_at_a_tones_frequency():
    for hz in (300.0, 1000.0, 4000.0):
        peak = mel_centres_hz()[log_mel(tone(hz)).mean(0).argmax()]
        assert abs(float(peak) - hz) < 0.05 * hz + 20


def test_log_mel_does_not_depend_on_the_blocks():
    speech = noise(BLOCK / 100 + 3.0)
    late = int(16000 * (BLOCK / 100 - 1))
    whole, part = log_mel(speech), log_mel(Speech(speech.waveform[late:]))
    torch.testing.assert_close(whole[late // 160 + 5 :], part[5:], rtol=0, atol=0.01)
    assert whole.shape == (speech.waveform.numel() // 160 + 1, 80)


def test_band_levels_see_the_band_of_a_tone():
    low, high = band_levels(tone(500.0), ((300.0, 800.0), (2000.0, 4000.0))).mean(0)
    assert low > high + 30


def test_log_mel_is_the_blocks_in_their_order():
    speech = noise(BLOCK / 100 + 1.0)
    assert torch.equal(log_mel(speech), torch.cat(list(iterate_log_mel(speech))))


def test_log_mel_of_a_single_sample_is_one_frame():
    assert log_mel(Speech(torch.ones(1))).shape == (1, 80)
