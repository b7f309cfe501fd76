"""Lips that part for breath between phrases."""

import torch

from portraittalk_core.motion.inhalation import REACH, inhalation
from portraittalk_core.speech.blocks import in_blocks

HZ = 100


def voice(seconds: float, *phrases: tuple[float, float]) -> torch.Tensor:
    activity = torch.zeros(round(seconds * HZ))
    for start, end in phrases:
        activity[round(start * HZ) : round(end * HZ)] = 1
    return activity


def at(curve: torch.Tensor, seconds: float) -> float:
    return float(curve[round(seconds * HZ)])


def test_lips_rest_after_a_phrase_and_part_before_the_next():
    parted = inhalation(voice(7, (1, 2), (5, 6)))
    assert at(parted, 0.1) < 0.01  # a second before all speech
    assert at(inhalation(voice(2, (0.5, 2))), 0) < 0.05  # a clip begins as the portrait is
    assert at(inhalation(voice(2, (0.5, 2))), 0.4) > 0.9
    assert at(parted, 0.8) > 0.95
    assert parted[120:180].max() < 0.01  # somebody speaks
    assert parted[210:425].max() < 0.05  # a long pause
    assert at(parted, 4.8) > 0.95
    assert parted[615:].max() < 0.01  # nothing is said any more
    assert parted.diff().abs().max() < 0.12  # no jerk: a tenth of a second and more from rest to parted


def test_short_pauses_are_no_breath():
    assert inhalation(voice(3, (0, 1), (1.2, 3))).max() < 0.01
    assert inhalation(voice(3, (0, 1), (1.4, 3)))[100:140].max() > 0.7


def test_a_stream_parts_its_lips_as_the_whole_does():
    activity = voice(6, (0.5, 1.1), (1.45, 2), (4, 4.6), (4.75, 5))
    streamed = torch.cat(list(in_blocks(inhalation, activity.split(37), REACH, REACH)))
    assert torch.allclose(streamed, inhalation(activity), atol=1e-6)
