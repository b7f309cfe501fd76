import numpy as np
import pytest

from portraittalk_core.training.mouth.phones import ALIKE, PHONE_SETS, SILENCE, SOUNDS, to_sounds
from portraittalk_core.training.mouth.trajectories import RATE_HZ, Phone, split_phones, trajectories
from portraittalk_core.types import MOUTH_PARAMETERS

OPENING, JAW, WIDTH, ROUNDING, _, TUCK, PRESS = range(len(MOUTH_PARAMETERS))


def say(*sounds: tuple[str, float]) -> tuple[np.ndarray, dict[str, slice]]:
    """Movements of IPA sounds with their lengths, half a second of silence around them, and where each sound lies."""
    at, phones, where = 0.5, [Phone("", 0.0, 0.5)], {}
    for symbol, seconds in sounds:
        phones.append(Phone(symbol, at, at + seconds))
        where[symbol] = slice(round(at * RATE_HZ), round((at + seconds) * RATE_HZ))
        at += seconds
    phones.append(Phone("", at, at + 0.5))
    return trajectories(split_phones(phones, "ipa"), at + 0.5), where


def test_lips_meet_on_m_between_open_vowels_and_part_on_the_vowels():
    movement, where = say(("a", 0.15), ("m", 0.08), ("ɑ", 0.15))
    parting = movement[:, OPENING] * (1 - movement[:, PRESS])
    assert parting[where["m"]].min() < 0.06
    assert parting[where["a"]].max() > 0.6
    assert movement[where["m"], PRESS].max() > 0.8


def test_labiodentals_tuck_and_rounded_vowels_round():
    movement, where = say(("a", 0.12), ("f", 0.1), ("u", 0.15))
    assert movement[where["f"], TUCK].max() > 0.7
    assert movement[where["u"], TUCK][5:].max() < 0.2
    assert movement[where["u"], ROUNDING].max() > 0.7
    assert movement[where["u"], WIDTH].min() < -0.5


def test_lips_round_before_the_rounded_vowel_sounds():
    before, where = say(("a", 0.15), ("t", 0.07), ("i", 0.15))
    rounding, _ = say(("a", 0.15), ("t", 0.07), ("u", 0.15))
    assert rounding[where["t"], ROUNDING].mean() > before[where["t"], ROUNDING].mean() + 0.15


def test_short_vowels_open_less():
    long, where_long = say(("t", 0.07), ("a", 0.2), ("t", 0.07))
    short, where_short = say(("t", 0.07), ("a", 0.04), ("t", 0.07))
    assert short[where_short["a"], OPENING].max() < 0.8 * long[where_long["a"], OPENING].max()


def test_silence_rests_and_a_long_pause_closes_more_than_a_short_one():
    def in_pause(seconds: float) -> float:
        phones = [Phone("a", 0, 0.2), Phone("", 0.2, 0.2 + seconds), Phone("a", 0.2 + seconds, 0.4 + seconds)]
        movement = trajectories(split_phones(phones, "ipa"), 0.4 + seconds)
        return float(movement[round((0.2 + seconds / 2) * RATE_HZ), OPENING])

    assert in_pause(1.5) < 0.02
    assert in_pause(1.5) < in_pause(0.25)


def test_louder_vowels_open_wider():
    phones = [Phone("a", 0.1, 0.3), Phone("t", 0.3, 0.4), Phone("a", 0.4, 0.6)]
    level = np.full(70, -20.0)
    level[10:30] += 12
    movement = trajectories(split_phones(phones, "ipa"), 0.7, level)
    assert movement[10:30, OPENING].max() > movement[40:60, OPENING].max() + 0.05


def test_nothing_said_moves_nothing():
    assert trajectories(split_phones([], "ipa"), 0.5).shape == (51, len(MOUTH_PARAMETERS))
    assert not trajectories(split_phones([Phone("", 0, 1)], "ipa"), 1.0)[30:70, OPENING:WIDTH].max() > 0.03


def test_diphthongs_and_affricates_are_split_and_marks_dropped():
    assert to_sounds("ow", "english") == ["o", "ʊ"]
    assert to_sounds("tʃʲ", "ipa") == ["t", "ʃ"]
    assert to_sounds("ɔ̃", "ipa") == ["ɔ"]
    assert to_sounds("aː", "ipa") == ["a"]
    assert to_sounds("ii", "russian") == ["i"]
    assert to_sounds("(en)", "ipa") == [SILENCE]


@pytest.mark.parametrize("phone_set", list(PHONE_SETS))
def test_every_phone_has_sounds(phone_set):
    for symbol, ipa in PHONE_SETS[phone_set].items():
        sounds = to_sounds(symbol, phone_set)
        assert sounds, symbol
        assert all(sound in SOUNDS for sound in sounds)
        assert (sounds == [SILENCE]) == (ipa == ""), symbol


def test_tables_hold_possible_movements():
    assert set(ALIKE.values()) <= set(SOUNDS)
    for symbol, sound in SOUNDS.items():
        assert all(-1 <= target <= 1 for target in sound.targets), symbol
        assert all(strict > 0 for strict in sound.dominance), symbol
        assert (sound.targets[PRESS] > 0.5) == (symbol in "pbm" and symbol != ""), symbol
