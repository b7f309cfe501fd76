import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from portraittalk_core.training.mouth.synthesisers import FLITE
from portraittalk_core.training.mouth.trajectories import Sounds
from portraittalk_core.training.mouth.vary_voice import SpokenClip, another_voice, change_tempo, shift_formants
from portraittalk_core.types import Speech

RATE, PITCH_HZ, FORMANT_HZ = 16_000, 125.0, 1500.0


def vowel(seconds: float = 1.0) -> np.ndarray:
    """Pulses at the pitch through one resonance."""
    pulses = np.zeros(int(seconds * RATE))
    pulses[:: int(RATE / PITCH_HZ)] = 1.0
    radius = np.exp(-np.pi * 300 / RATE)
    return lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * FORMANT_HZ / RATE), radius**2], pulses)


def strongest_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.fft.rfftfreq(len(waveform), 1 / RATE)[spectrum.argmax()])


def pitch_hz(waveform: np.ndarray) -> float:
    middle = waveform[4000:12000]
    likeness = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    return RATE / (60 + int(likeness[60:250].argmax()))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_formants_move_and_pitch_stays(factor):
    moved = shift_formants(vowel(), factor)
    assert len(moved) == RATE
    assert strongest_hz(moved[4000:12000]) == pytest.approx(FORMANT_HZ * factor, abs=PITCH_HZ)
    assert pitch_hz(moved) == pytest.approx(PITCH_HZ, rel=0.02)


def test_nothing_moved_is_the_same_sound():
    np.testing.assert_allclose(shift_formants(vowel(), 1.0), vowel(), atol=1e-9)


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.3])
def test_tempo_changes_length_and_neither_pitch_nor_formants(factor):
    spoken = change_tempo(vowel(1.5), factor)
    assert len(spoken) == round(1.5 * RATE / factor)
    assert pitch_hz(spoken) == pytest.approx(PITCH_HZ, rel=0.02)
    assert strongest_hz(spoken[4000:12000]) == pytest.approx(FORMANT_HZ, abs=PITCH_HZ)
    assert np.std(spoken[4000:12000]) == pytest.approx(np.std(vowel()[4000:12000]), rel=0.15)


def test_sounds_keep_their_place_in_another_voice():
    waveform = np.zeros(2 * RATE)
    waveform[RATE : RATE + 4800] = vowel(0.3)  # from 1.0 to 1.3 s
    sounds = Sounds(("", "a", ""), np.array([0, 1.0, 1.3]), np.array([1.0, 1.3, 2.0]))
    clip = SpokenClip(Speech(torch.from_numpy(0.3 * waveform).float()), sounds, FLITE[0])
    for seed in range(3):
        other = another_voice(clip, np.random.default_rng(seed))
        loud = np.flatnonzero(other.speech.waveform.abs().numpy() > 0.02) / RATE
        assert loud[0] == pytest.approx(other.sounds.start_s[1], abs=0.03)
        assert loud[-1] == pytest.approx(other.sounds.end_s[1], abs=0.04)
        assert other.sounds.end_s[2] == pytest.approx(other.speech.seconds, abs=0.01)
