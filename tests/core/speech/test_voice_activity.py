import math

import pytest
import torch

from portraittalk_core.speech.voice_activity import voice_activity
from portraittalk_core.types import Speech

RATE = 16000


def syllables(seconds: float = 3.0, pause: tuple[float, float] = (1.2, 2.0)) -> torch.Tensor:
    """A buzz at 120 Hz whose loudness rises and falls four times a second, with one pause."""
    t = torch.arange(int(RATE * seconds)) / RATE
    buzz = sum(torch.sin(2 * math.pi * 120 * k * t) / k for k in range(1, 25))
    envelope = 0.02 + torch.sin(math.pi * 4 * t).square()
    envelope[(t >= pause[0]) & (t < pause[1])] = 0
    return 0.1 * buzz * envelope


def test_activity_is_on_in_speech_and_off_in_its_pause():
    active = voice_activity(Speech(syllables()))
    assert active[20:110].mean() > 0.9
    assert active[140:185].max() < 0.05
    assert active[220:290].mean() > 0.9


@pytest.mark.parametrize("gain", [0.01, 0.3, 5.0])
def test_activity_is_free_of_level(gain):
    quiet, loud = (voice_activity(Speech((g * syllables()).clamp(-1, 1))) for g in (gain, 1.0))
    assert (quiet - loud).abs().mean() < 0.05


def test_activity_hears_speech_over_steady_noise():
    noise = 0.02 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    active = voice_activity(Speech(syllables() + noise))
    assert active[20:110].mean() > 0.7
    assert active[140:185].mean() < 0.3


@pytest.mark.parametrize(
    "signal",
    [
        torch.zeros(2 * RATE),
        0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(1)),
        0.3 * torch.sin(2 * math.pi * 440 * torch.arange(2 * RATE) / RATE),
    ],
    ids=["silence", "white noise", "tone"],
)
def test_what_is_no_speech_stays_off(signal):
    assert voice_activity(Speech(signal))[10:-10].mean() < 0.02


def test_gate_opens_less_when_raised():
    soft_end = syllables()
    soft_end[2 * RATE :] *= 0.01  # 40 dB down
    open_gate, raised = (voice_activity(Speech(soft_end), gate)[230:290].mean() for gate in (-60.0, -20.0))
    assert open_gate > raised + 0.5


def test_activity_follows_a_noise_that_sets_in():
    clean = torch.cat([syllables()] * 10)  # 30 s, a pause every 3 s
    noise = 0.02 * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    noise[: len(clean) // 2] *= 0.02
    active = voice_activity(Speech(clean + noise))
    for start in range(0, 3000, 300):
        assert active[start + 20 : start + 110].mean() > 0.7
        assert active[start + 140 : start + 185].mean() < 0.3


def test_speech_at_the_very_ends_of_a_long_clip_is_heard():
    clip = torch.cat([syllables(), torch.zeros(9 * RATE), 0.15 * syllables(4.125, pause=(1.2, 1.3))])
    active = voice_activity(Speech(clip))
    assert active[5:25].mean() > 0.7
    assert active[-40:-15].mean() > 0.7
