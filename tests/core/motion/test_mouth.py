import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.mouth import predict_mouth
from portraittalk_core.types import MotionOptions, Speech

RATE = 16000
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


def vowel(formants: tuple[float, ...], seconds: float, pitch: float = 120.0) -> torch.Tensor:
    """Harmonics of a voice, each as strong as the formants make it (resonances 80 Hz wide over a falling source)."""
    t = torch.arange(int(RATE * seconds)) / RATE
    sound = torch.zeros_like(t)
    for k in range(1, int(6000 / pitch)):
        hz = k * pitch
        gain = sum(1 / (1 + ((hz - f) / 80) ** 2) for f in formants) + 0.003
        sound += gain / k**0.5 * torch.sin(2 * math.pi * hz * t)
    return 0.2 * sound / sound.abs().max()


def murmur(seconds: float) -> torch.Tensor:
    """A closed mouth: voice below 300 Hz only, as in m."""
    t = torch.arange(int(RATE * seconds)) / RATE
    return 0.08 * (torch.sin(2 * math.pi * 120 * t) + torch.sin(2 * math.pi * 240 * t))


def hiss(seconds: float) -> torch.Tensor:
    """Air through a narrow gap, as in s: noise above 4.5 kHz, and 20 dB less from 1.5 kHz on."""
    count = int(RATE * seconds)
    spectrum = torch.fft.rfft(torch.randn(count, generator=torch.Generator().manual_seed(0)))
    spectrum[: int(4500 * seconds)] *= 0.1
    spectrum[: int(1500 * seconds)] = 0
    sound = torch.fft.irfft(spectrum, n=count)
    return 0.05 * sound / sound.std()


def mama(times: int = 4) -> Speech:
    return Speech(torch.cat([murmur(0.16), vowel((850, 1400, 2500), 0.24)] * times + [torch.zeros(RATE // 2)]))


def frames(start_s: float, stop_s: float) -> slice:
    return slice(round(start_s * 25), round(stop_s * 25))


def test_mouth_opens_on_vowels_and_closes_on_m():
    curves = predict_mouth(mama(), MotionOptions(smoothing=0))
    for k in (1, 2):
        m, a = frames(0.4 * k + 0.04, 0.4 * k + 0.12), frames(0.4 * k + 0.24, 0.4 * k + 0.36)
        assert curves.opening[m].mean() < 0.15
        assert curves.opening[a].mean() > 0.5
        assert curves.press[m].max() > curves.press[a].max() + 0.4


def test_mouth_rests_closed_in_silence():
    curves = predict_mouth(mama(), MotionOptions())
    assert curves.opening[-6:].max() < 0.02
    silent = predict_mouth(Speech(torch.zeros(RATE)), MotionOptions())
    for name in ("opening", "width", "rounding", "press"):
        assert getattr(silent, name).abs().max() == 0


def test_rounded_vowels_round_and_spread_ones_spread():
    pause = torch.zeros(round(0.1 * RATE))
    uiui = Speech(torch.cat([vowel((320, 800, 2200), 0.3), pause, vowel((300, 2300, 3000), 0.3), pause] * 3))
    curves = predict_mouth(uiui, MotionOptions(smoothing=0))
    u, i = frames(0.88, 1.02), frames(1.28, 1.42)
    assert curves.width[i].mean() > curves.width[u].mean() + 0.4
    assert curves.rounding[u].mean() > curves.rounding[i].mean() + 0.2


def test_mouth_gain_scales_the_opening():
    speech = mama()
    half, whole, none = (
        predict_mouth(speech, MotionOptions(mouth_gain=gain, smoothing=0)).opening for gain in (0.5, 1.0, 0.0)
    )
    torch.testing.assert_close(half, 0.5 * whole)
    assert none.abs().max() == 0


def test_loudness_does_not_move_the_mouth():
    speech = mama()
    quiet = Speech(0.1 * speech.waveform)
    a, b = (predict_mouth(s, MotionOptions()).opening for s in (speech, quiet))
    assert (a - b).abs().max() < 0.08


def test_offset_moves_the_mouth_in_time():
    speech = mama()
    now = predict_mouth(speech, MotionOptions(smoothing=0)).opening
    later = predict_mouth(speech, MotionOptions(smoothing=0, offset_ms=200)).opening
    torch.testing.assert_close(later[5:], now[:-5], rtol=0, atol=1e-4)


@pytest.mark.parametrize("fps", [Fraction(12), Fraction(30000, 1001), Fraction(60)])
def test_mouth_has_a_value_for_every_frame(fps):
    speech = load_speech(SAMPLE)
    curves = predict_mouth(speech, MotionOptions(fps=fps))
    assert len(curves) == math.ceil(Fraction(speech.waveform.numel(), RATE) * fps)
    for name in ("opening", "width", "rounding", "press"):
        assert torch.isfinite(getattr(curves, name)).all()


def test_smoothing_calms_the_mouth():
    speech = load_speech(SAMPLE)
    rough, calm = (predict_mouth(speech, MotionOptions(smoothing=s)).opening.diff().abs().mean() for s in (0.0, 1.0))
    assert calm < 0.8 * rough


def test_sample_sentence_opens_and_closes():
    opening = predict_mouth(load_speech(SAMPLE), MotionOptions()).opening
    assert opening.max() > 0.6
    assert (opening < 0.1).float().mean() > 0.1
    assert 0.1 < opening.mean() < 0.45


def test_a_hiss_opens_less_than_a_vowel_and_does_not_spread():
    sama = torch.cat([hiss(0.16), vowel((850, 1400, 2500), 0.24), murmur(0.16), vowel((850, 1400, 2500), 0.24)])
    curves = predict_mouth(Speech(torch.cat([sama] * 4 + [torch.zeros(RATE // 2)])), MotionOptions(smoothing=0))
    for k in (1, 2):
        s, a = frames(0.8 * k + 0.04, 0.8 * k + 0.12), frames(0.8 * k + 0.24, 0.8 * k + 0.36)
        assert 0.05 < curves.opening[s].mean() < 0.6 * curves.opening[a].mean()
        assert curves.width[s].abs().max() < 0.4
        assert curves.press[s].max() < 0.3


def test_a_short_stop_within_speech_presses_the_lips():
    closure = 0.3 * murmur(0.08)  # b: a faint murmur, no longer than the voice gate bridges
    speech = Speech(torch.cat([vowel((850, 1400, 2500), 0.24), closure] * 6 + [torch.zeros(RATE // 2)]))
    curves = predict_mouth(speech, MotionOptions(smoothing=0, fps=Fraction(50)))
    for k in (2, 3):
        b = slice(round((0.32 * k - 0.08) * 50), round(0.32 * k * 50))
        a = slice(round((0.32 * k + 0.06) * 50), round((0.32 * k + 0.18) * 50))
        assert curves.press[b].max() > 0.8
        assert curves.press[a].max() < 0.1


@pytest.mark.parametrize("snr_db", [20, 10])
def test_steady_noise_hardly_changes_the_mouth(snr_db):
    clean = load_speech(SAMPLE).waveform
    noise = clean.square().mean().sqrt() * 10 ** (-snr_db / 20)
    noisy = clean + noise * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    curves = torch.stack([predict_mouth(Speech(s), MotionOptions()).opening for s in (clean, noisy)])
    assert torch.corrcoef(curves)[0, 1] > 0.55


def test_telephone_sound_moves_the_mouth_alike():
    clean = load_speech(SAMPLE).waveform
    spectrum = torch.fft.rfft(clean)
    hz = torch.arange(len(spectrum)) * RATE / len(clean)
    spectrum[(hz < 300) | (hz > 3400)] = 0
    telephone = torch.fft.irfft(spectrum, n=len(clean))
    curves = torch.stack([predict_mouth(Speech(s), MotionOptions()).opening for s in (clean, telephone)])
    assert torch.corrcoef(curves)[0, 1] > 0.7


def test_mouth_closes_in_the_pauses_of_the_sample():
    # where flite itself put its pauses (flite -psdur), seconds
    pauses = ((0.0, 0.177), (0.714, 0.926), (2.710, 2.819), (5.174, 5.291), (7.535, 7.718))
    curves = predict_mouth(load_speech(SAMPLE), MotionOptions(fps=Fraction(100)))
    for start, stop in pauses:
        middle = round(50 * (start + stop)) - 3  # lips lead the sound by 30 ms
        assert (curves.opening * (1 - curves.press))[middle - 2 : middle + 3].max() < 0.1


def test_smoothing_does_not_delay_the_mouth():
    speech = load_speech(SAMPLE)
    fine = Fraction(100)
    rough, calm = (predict_mouth(speech, MotionOptions(fps=fine, smoothing=s)).opening for s in (0.0, 1.0))
    fits = [float(torch.corrcoef(torch.stack([rough[9:-9], calm.roll(-k)[9:-9]]))[0, 1]) for k in range(-5, 6)]
    assert abs(fits.index(max(fits)) - 5) <= 1  # within 10 ms


def test_predictor_is_deterministic():
    speech = load_speech(SAMPLE)
    first, again = (predict_mouth(speech, MotionOptions()).opening for _ in range(2))
    assert torch.equal(first, again)
