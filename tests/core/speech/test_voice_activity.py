import math
from pathlib import Path

import made_voice
import pytest
import torch

from portraittalk_core.media.audio import load_speech
from portraittalk_core.speech.voice_activity import LiveVoiceGate, voice_activity
from portraittalk_core.types import Speech

RATE = 16000
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


def syllables(seconds: float = 3.0, pause: tuple[float, float] = (1.2, 2.0)) -> torch.Tensor:
    """A voice whose loudness rises and falls four times a second, with one pause."""
    t = torch.arange(int(RATE * seconds)) / RATE
    return made_voice.syllables(seconds) * ~((t >= pause[0]) & (t < pause[1]))


def chord(seconds: float, sway: float = 0.0) -> torch.Tensor:
    """An organ: three pitches with eight partials, whose loudness may sway six times a second."""
    t = torch.arange(int(RATE * seconds)) / RATE
    sound = sum(torch.sin(math.tau * hz * k * t) / k for hz in (261.6, 329.6, 392.0) for k in range(1, 9))
    return 0.05 * sound * (1 - sway * torch.sin(math.tau * 3 * t).square())


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(int(RATE * seconds), generator=torch.Generator().manual_seed(seed))


def beats(seconds: float, hz: float) -> torch.Tensor:
    """1 in the first part of every beat and 0 in the rest."""
    return ((torch.arange(int(RATE * seconds)) / RATE * hz) % 1 < 0.4).float()


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
        0.1 * noise(2),
        0.3 * torch.sin(2 * math.pi * 440 * torch.arange(2 * RATE) / RATE),
        chord(4),
        chord(4, sway=1.0),
        0.1 * noise(4) * beats(4, 2),
        torch.nn.functional.avg_pool1d(noise(4)[None], 5, 1, 2)[0]
        * torch.sin(math.tau * torch.arange(4 * RATE) / RATE / 2).clamp(min=0),
        0.3 * torch.sin(math.tau * 440 * torch.arange(4 * RATE) / RATE) * beats(4, 4),
    ],
    ids=["silence", "white noise", "tone", "organ", "swaying organ", "drums", "breath", "telephone"],
)
def test_what_is_no_speech_stays_off(signal):
    assert voice_activity(Speech(signal))[10:-10].mean() < 0.02


def test_at_the_lowest_gate_every_sound_counts():
    assert voice_activity(Speech(chord(2)), -80)[10:-10].min() > 0.98
    assert voice_activity(Speech(torch.zeros(RATE)), -80).max() == 0


@pytest.mark.parametrize(("snr_db", "beside"), [(20.0, chord), (5.0, noise), (0.0, noise)])
def test_speech_is_heard_in_music_and_noise_that_go_on_without_it(snr_db, beside):
    """Three seconds of the sound alone, the sample on it, three more."""
    voice = torch.nn.functional.pad(load_speech(SAMPLE).waveform, (3 * RATE, 3 * RATE))
    other = beside(len(voice) / RATE)
    spoken = slice(3 * RATE, -3 * RATE)
    mixed = voice + other * (voice[spoken].square().mean() / other.square().mean() / 10 ** (snr_db / 10)).sqrt()
    active = voice_activity(Speech(0.5 * mixed))
    assert active[:240].mean() < 0.02 and active[-200:].mean() < 0.02
    assert active[330:-330].mean() > 0.8


def test_pauses_of_a_tenth_of_a_second_within_a_phrase_come_from_the_levels():
    t = torch.arange(3 * RATE) / RATE
    voice = made_voice.made_voice(3) * ~((t >= 1.5) & (t < 1.7))  # 200 ms, one of which is a hang on each side
    active = voice_activity(Speech(voice))
    assert active[157:163].max() < 0.1
    assert active[100:140].min() > 0.9 and active[180:250].min() > 0.9


def test_a_held_note_of_a_voice_is_sung_to_its_end():
    """After two seconds of syllables the last vowel goes on for two more, unchanged."""
    voice = made_voice.made_voice(2)
    period = voice[-2080:-160]  # 120 ms
    fade = torch.linspace(0, 1, 160)
    joined = torch.cat([period[:-160], period[-160:] * (1 - fade) + voice[-2240:-2080] * fade])
    note = joined.repeat(2 * RATE // len(joined))
    active = voice_activity(Speech(torch.cat([torch.zeros(RATE), voice, note, torch.zeros(RATE)])))
    assert active[130:480].min() > 0.9
    assert active[-80:].max() == 0


def test_gate_opens_less_when_raised():
    soft_end = syllables()
    soft_end[2 * RATE :] *= 0.05  # 26 dB down
    open_gate, raised = (voice_activity(Speech(soft_end), gate)[230:290].mean() for gate in (-60.0, -15.0))
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


@pytest.mark.parametrize("size", [160, 4000])
def test_the_live_gate_opens_soon_after_a_voice_begins_and_shuts_soon_after_it_ends(size):
    sound = torch.cat([torch.zeros(RATE), made_voice.made_voice(2), torch.zeros(RATE), chord(2)])
    live = LiveVoiceGate()
    opened = torch.cat([live.push(piece) for piece in sound.split(size)])
    assert len(opened) == len(sound) // 512
    changes = torch.nonzero(opened.diff()).flatten() * 0.032 + 0.032  # seconds
    assert opened[0] == 0 and len(changes) == 2
    assert 1.0 < changes[0] < 1.5 and 3.0 < changes[1] < 3.6


def test_the_live_gate_bridges_gaps_within_a_phrase_and_no_single_sure_window_opens_it(monkeypatch):
    def gate_of(*probabilities: float) -> list[float]:
        live = LiveVoiceGate()
        monkeypatch.setattr(live._voice, "push", lambda _: torch.tensor(probabilities))
        return live.push(torch.zeros(1)).tolist()

    assert gate_of(0.0, 0.9, 0.3, 0.9, 0.0) == [0.0] * 5
    assert gate_of(0.9, 0.9, 0.2, *[0.0] * 7, 0.2, 0.0) == [0.0, *[1.0] * 11]
    assert gate_of(0.9, 0.9, *[0.0] * 8, 0.2) == [0.0, *[1.0] * 8, 0.0, 0.0]
