from fractions import Fraction

import torch

from portraittalk_core.motion.blink import blink_curve
from portraittalk_core.motion.stress import brow_curve, nearest_stress, stress_curve
from portraittalk_core.types import MouthCurves

FPS = Fraction(25)


def one_syllable(at: int) -> torch.Tensor:
    mouth = MouthCurves.closed(200)
    mouth.opening[at : at + 5] = 1.0
    return stress_curve(mouth, FPS)


def test_stress_peaks_on_the_syllable_and_an_even_mouth_has_none():
    assert abs(int(one_syllable(100).argmax()) - 102) <= 1
    even = MouthCurves.closed(100)
    even.opening.fill_(0.5)
    assert stress_curve(even, FPS).abs().max() < 1e-6


def test_brows_rise_on_strong_stress_only():
    brow = brow_curve(one_syllable(100), FPS)
    assert 0.1 < brow.max() <= 1
    assert brow[:60].max() == 0
    assert brow_curve(torch.full((50,), 0.05), FPS).max() == 0


def test_a_moment_moves_to_stress_close_by_only():
    stress = one_syllable(100)
    assert abs(nearest_stress(stress, FPS, 3.9) - 4.08) < 0.06
    assert nearest_stress(stress, FPS, 1.0) == 1.0


def test_blinks_follow_stress():
    plain = blink_curve(500, FPS, 20, seed=3)
    first = int((plain > 0.5).nonzero()[0])
    stress = torch.zeros(500)
    stress[first + 4] = 0.5
    moved = blink_curve(500, FPS, 20, seed=3, stress=stress)
    assert 1 <= int((moved > 0.5).nonzero()[0]) - first <= 8
