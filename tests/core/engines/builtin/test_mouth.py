import math
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.builtin.mouth import predict_mouth
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.types import MOUTH_PARAMETERS, MouthCurves, Speech

RATE = 16000
FPS = Fraction(50)
SAMPLE = Path(__file__).parents[4] / "samples" / "speech.wav"


# what flite says in the sample, and when each sound ends (flite -psdur), seconds
PHONES = """
pau:0.177 hh:0.276 ax:0.328 l:0.591 ow:0.714 pau:0.926 dh:0.983 ih:1.068 s:1.140 p:1.220 ao:1.356 r:1.456 t:1.554
r:1.609 ax:1.644 t:1.680 hh:1.725 ae:1.798 z:1.874 l:2.003 er:2.131 n:2.186 d:2.231 t:2.291 ax:2.325 s:2.452 p:2.528
iy:2.630 k:2.710 pau:2.819 t:2.893 uw:3.071 r:3.181 uw:3.272 l:3.450 z:3.539 pau:3.665 ow:3.796 p:3.884 ax:3.954
n:4.033 w:4.109 ay:4.363 d:4.397 f:4.505 ao:4.553 r:4.590 v:4.649 aw:4.872 ax:4.912 l:5.055 z:5.174 pau:5.291
ae:5.361 n:5.395 d:5.436 k:5.538 l:5.660 ow:5.731 z:5.852 b:5.893 ow:6.023 th:6.143 l:6.179 ih:6.238 p:6.319 s:6.397
f:6.513 ao:6.535 r:6.572 b:6.635 iy:6.710 p:6.845 iy:6.948 ae:7.022 n:7.067 d:7.100 eh:7.315 m:7.535 pau:7.718
"""


def spoken(*symbols: str) -> list[tuple[float, float]]:
    """Start and end of each of these sounds in the sample."""
    ends = [(name, float(end)) for name, end in (entry.split(":") for entry in PHONES.split())]
    starts = [0.0, *(end for _, end in ends)]
    return [(start, end) for (name, end), start in zip(ends, starts, strict=False) if name in symbols]


def sample(**options) -> MouthCurves:
    return predict_mouth(load_speech(SAMPLE), MotionOptions(fps=FPS, **options))


def during(curve: torch.Tensor, *symbols: str) -> torch.Tensor:
    """The curve in the middle of each of these sounds; lips lead the sound a little."""
    return torch.stack([curve[round((0.5 * (start + end) - 0.02) * float(FPS))] for start, end in spoken(*symbols)])


def test_lips_close_on_p_b_m_and_open_on_vowels():
    parting = sample().parting
    closed = torch.stack([parting[int(start * 50) : round(end * 50) + 1].min() for start, end in spoken("p", "b", "m")])
    assert (closed < 0.1).float().mean() >= 0.8
    assert during(parting, "ay", "aw", "ae", "ao").mean() > 0.45
    assert during(parting, "ay", "aw", "ae", "ao").mean() > during(parting, "uw", "w").mean() + 0.15


def test_the_lower_lip_tucks_on_f_and_v():
    tuck = sample().tuck
    assert during(tuck, "f", "v").mean() > during(tuck, "s", "iy", "ae", "l", "d").mean() + 0.4


def test_rounded_sounds_round_and_spread_ones_spread():
    curves = sample()
    rounded, spread = ("uw", "w", "ow"), ("iy", "ih", "eh", "ae")
    assert during(curves.rounding, *rounded).mean() > during(curves.rounding, *spread).mean() + 0.3
    assert during(curves.width, *spread).mean() > during(curves.width, *rounded).mean() + 0.4


def test_the_jaw_is_up_on_s_while_the_lips_are_apart():
    curves = sample()
    assert during(curves.jaw, "s", "z").mean() < during(curves.jaw, "ae", "ay", "ao").mean() - 0.3
    assert during(curves.opening, "s", "z").mean() > during(curves.opening, "p", "b", "m").mean() + 0.15


def test_a_clip_without_sound_rests():
    silent = predict_mouth(Speech(torch.zeros(RATE)), MotionOptions())
    assert all(getattr(silent, field.name).abs().max() == 0 for field in fields(silent))


def test_music_without_a_voice_rests_and_says_so(caplog):
    t = torch.arange(4 * RATE) / RATE
    chord = sum(torch.sin(2 * math.pi * hz * t) for hz in (220, 277, 330, 440)) / 8
    curves = predict_mouth(Speech(chord, "chord.wav"), MotionOptions())
    assert curves.opening.max() == 0
    assert "chord.wav" in caplog.text


def test_mouth_gain_scales_the_opening():
    speech = load_speech(SAMPLE)
    half, whole, none = (
        predict_mouth(speech, MotionOptions(mouth_gain=gain, smoothing=0)).opening for gain in (0.5, 1.0, 0.0)
    )
    torch.testing.assert_close(half, 0.5 * whole)
    assert none.abs().max() == 0


def test_loudness_does_not_move_the_mouth():
    speech = load_speech(SAMPLE)
    quiet = Speech(0.1 * speech.waveform)
    a, b = (predict_mouth(s, MotionOptions()).opening for s in (speech, quiet))
    assert (a - b).abs().max() < 0.08


def test_offset_moves_the_mouth_in_time():
    speech = load_speech(SAMPLE)
    now = predict_mouth(speech, MotionOptions(smoothing=0)).opening
    later = predict_mouth(speech, MotionOptions(smoothing=0, offset_ms=200)).opening
    torch.testing.assert_close(later[5:], now[:-5], rtol=0, atol=1e-4)


@pytest.mark.parametrize("fps", [Fraction(12), Fraction(30000, 1001), Fraction(60)])
def test_mouth_has_a_value_for_every_frame(fps):
    speech = load_speech(SAMPLE)
    curves = predict_mouth(speech, MotionOptions(fps=fps))
    assert len(curves) == math.ceil(Fraction(speech.waveform.numel(), RATE) * fps)
    for name in MOUTH_PARAMETERS:
        assert torch.isfinite(getattr(curves, name)).all()


def test_smoothing_calms_the_mouth():
    speech = load_speech(SAMPLE)
    rough, calm = (predict_mouth(speech, MotionOptions(smoothing=s)).opening.diff().abs().mean() for s in (0.0, 1.0))
    assert calm < 0.8 * rough


def test_sample_sentence_opens_and_closes():
    opening = predict_mouth(load_speech(SAMPLE), MotionOptions()).parting
    assert opening.max() > 0.6
    assert (opening < 0.1).float().mean() > 0.1
    assert 0.1 < opening.mean() < 0.45


@pytest.mark.parametrize(("snr_db", "least_r"), [(20, 0.7), (10, 0.4)])
def test_steady_noise_hardly_changes_the_mouth(snr_db, least_r):
    clean = load_speech(SAMPLE).waveform
    noise = clean.square().mean().sqrt() * 10 ** (-snr_db / 20)
    noisy = clean + noise * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    curves = torch.stack([predict_mouth(Speech(s), MotionOptions()).opening for s in (clean, noisy)])
    assert torch.corrcoef(curves)[0, 1] > least_r


def test_telephone_sound_moves_the_mouth_alike():
    clean = load_speech(SAMPLE).waveform
    spectrum = torch.fft.rfft(clean)
    hz = torch.arange(len(spectrum)) * RATE / len(clean)
    spectrum[(hz < 300) | (hz > 3400)] = 0
    telephone = torch.fft.irfft(spectrum, n=len(clean))
    curves = torch.stack([predict_mouth(Speech(s), MotionOptions()).opening for s in (clean, telephone)])
    assert torch.corrcoef(curves)[0, 1] > 0.7


def test_lips_meet_in_silence_and_come_near_each_other_in_short_pauses():
    sentence = load_speech(SAMPLE).waveform
    speech = Speech(torch.cat([sentence, torch.zeros(RATE), sentence]))
    curves = predict_mouth(speech, MotionOptions(fps=FPS, breath=0))
    silence = slice(round((len(sentence) / RATE + 0.15) * 50), round((len(sentence) / RATE + 0.85) * 50))
    assert curves.parting[silence].max() < 0.02
    # pauses of 100 to 200 ms inside the sentence: people do not shut their lips for them, nor open wide
    short = torch.stack([curves.parting[int(50 * a) : int(50 * b)].min() for a, b in spoken("pau")[1:-1]])
    assert short.mean() < 0.5 * curves.parting.quantile(0.95)


def test_lips_part_for_breath_before_a_phrase_as_far_as_in_speech():
    sentence = load_speech(SAMPLE).waveform
    speech = Speech(torch.cat([sentence, torch.zeros(RATE), sentence, torch.zeros(RATE)]))
    calm, breathing, deep = (predict_mouth(speech, MotionOptions(fps=FPS, breath=b)) for b in (0, 1, 2))
    ends = round(50 * len(sentence) / RATE)
    inhaled = breathing.opening[ends + 35 : ends + 50]
    typical = calm.opening[calm.opening > 0.02].mean()
    assert 0.6 * typical < inhaled.mean() < 1.4 * typical
    assert torch.allclose(deep.opening[ends + 35 : ends + 45], 2 * inhaled[:10], rtol=0.05)
    assert 0 < breathing.jaw[ends + 40] < breathing.opening[ends + 40]
    assert breathing.opening[-40:].max() < 0.02  # nobody speaks any more
    assert breathing.press.equal(calm.press)


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
