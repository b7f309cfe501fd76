import math

import pytest
import torch

from portraittalk_core.speech.pitch import coarse_pitch, pitch_hz
from portraittalk_core.types import Speech

RATE = 16000


def tone(hz: float, seconds: float = 1.0) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE)) / RATE)


@pytest.mark.parametrize("hz", [85, 100, 131.5, 220, 400, 555.5, 740])
def test_pitch_of_a_sine_is_its_frequency(hz):
    inner = pitch_hz(Speech(tone(hz)))[2:-2]
    assert (inner / hz - 1).abs().max() < 0.02


@pytest.mark.parametrize("hz", [90, 150, 310])
def test_pitch_of_a_buzz_in_noise_is_its_fundamental(hz):
    t = torch.arange(RATE) / RATE
    buzz = sum(torch.sin(2 * math.pi * hz * k * t) / k for k in range(1, int(7500 / hz)))
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    inner = pitch_hz(Speech(0.2 * buzz + 0.02 * noise))[2:-2]
    assert (inner / hz - 1).abs().max() < 0.02


def test_pitch_follows_a_glide():
    t = torch.arange(2 * RATE) / RATE
    f0 = pitch_hz(Speech(0.2 * torch.sin(2 * math.pi * (100 * t + 50 * t.square()))))  # 100 to 300 Hz
    centre_s = (torch.arange(len(f0)) * 320 + 256) / RATE
    assert (f0 / (100 + 100 * centre_s) - 1)[2:-2].abs().max() < 0.02


def test_silence_and_noise_are_unvoiced():
    assert not pitch_hz(Speech(torch.zeros(RATE))).any()
    assert not pitch_hz(Speech(torch.full((RATE,), 0.1))).any()
    noise = torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0))
    assert (pitch_hz(Speech(0.1 * noise)) > 0).float().mean() < 0.02


def test_only_the_voiced_part_has_a_pitch():
    f0 = pitch_hz(Speech(torch.cat([torch.zeros(RATE), tone(200), torch.zeros(RATE)])))
    assert not f0[:46].any()
    assert not f0[104:].any()
    assert (f0[52:98] - 200).abs().max() < 4


@pytest.mark.parametrize(("samples", "frames"), [(100, 1), (400, 1), (720, 2), (16000, 49), (16080, 50), (160000, 499)])
def test_frames_are_those_of_the_speech_encoder(samples, frames):
    assert len(pitch_hz(Speech(torch.zeros(samples)))) == frames
    assert len(pitch_hz(Speech(torch.linspace(-0.1, 0.1, samples)))) == frames


def test_blocks_leave_no_seam():
    """Frames around the edge of a block are those of a clip in which no edge lies there."""
    glide = torch.arange(12 * RATE) / RATE
    waveform = 0.2 * torch.sin(2 * math.pi * (100 * glide + 8 * glide.square()))
    whole, later = pitch_hz(Speech(waveform)), pitch_hz(Speech(waveform[100 * 320 :]))
    assert torch.allclose(whole[200:300], later[100:200], rtol=1e-4)


def test_progress_reaches_the_end_and_may_interrupt():
    seen = []
    pitch_hz(Speech(tone(100, 12)), lambda done, total: seen.append((done, total)))
    assert seen == [(250, 599), (500, 599), (599, 599)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pitch_hz(Speech(tone(100, 12)), stop)


def test_coarse_pitch_has_known_ends_and_rises():
    assert coarse_pitch(torch.tensor([0.0, 50.0, 1100.0, 5000.0])).tolist() == [1, 1, 255, 255]
    steps = coarse_pitch(torch.arange(0, 1200, 0.5))
    assert (steps.diff() >= 0).all()
    assert steps.unique().tolist() == list(range(1, 256))


def test_coarse_pitch_matches_the_mel_formula():
    def by_hand(hz: float) -> int:
        def mel(f: float) -> float:
            return 2595 / math.log(10) * math.log1p(f / 700)  # the scale's factor cancels

        return round(1 + 254 * (mel(hz) - mel(50)) / (mel(1100) - mel(50)))

    for hz in (82.0, 123.4, 200.0, 333.3, 749.0):
        assert int(coarse_pitch(torch.tensor([hz]))) == by_hand(hz)
