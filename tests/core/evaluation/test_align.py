import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.evaluation.align import Offset, best_lag, find_offset, most_alike_lag, pair_frames
from portraittalk_core.evaluation.clip import LandmarkStore, TrackedClip, level_of_blocks
from portraittalk_core.evaluation.options import FramePairing
from portraittalk_core.metrics.meter import FaceCurves


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tracked(mouth: torch.Tensor, thumbs: torch.Tensor | None = None, level: torch.Tensor | None = None) -> TrackedClip:
    count = len(mouth)
    grey = torch.zeros(count, 256, dtype=torch.uint8) if thumbs is None else thumbs
    still = torch.zeros(count)
    curves = FaceCurves(Fraction(25), ~mouth.isnan(), mouth.float(), still, torch.zeros(count, 3), still[1:], level)
    return TrackedClip("clip", 64, 64, LandmarkStore(), curves, grey)


@pytest.mark.parametrize("lag", [-7, 0, 12])
def test_best_lag_finds_a_shift(lag):
    curve = noise(200)
    generated = curve[20 - lag : 170 - lag]  # generated[t + lag] is target[t]
    found, likeness = best_lag(generated, curve[20:170], 15)
    assert found == pytest.approx(lag, abs=0.5)
    assert likeness == pytest.approx(1.0)


def test_best_lag_lies_between_steps():
    times = torch.arange(300, dtype=torch.float64)
    found, _ = best_lag((0.2 * (times - 3.4)).sin(), (0.2 * times).sin(), 10)
    assert found == pytest.approx(3.4, abs=0.05)


def test_best_lag_leaves_unknown_values_out():
    curve = noise(120)
    generated = curve.clone()
    generated[30:50] = math.nan
    assert best_lag(generated, curve, 5)[0] == pytest.approx(0, abs=0.5)
    assert best_lag(torch.full((50,), math.nan, dtype=torch.float64), curve, 5) == (0, 0)


def test_most_alike_lag_finds_shifted_pictures():
    pictures = torch.randint(0, 256, (60, 256), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert most_alike_lag(pictures[5:], pictures, 12)[0] == -5
    assert most_alike_lag(pictures[5:], pictures, 12)[1] == pytest.approx(1.0)


def test_sound_level_of_a_sine_is_its_level():
    samples = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)).astype(np.float32)[None]
    level = level_of_blocks([samples[:, :77], samples[:, 77:5000], samples[:, 5000:]])  # in blocks of any length
    assert len(level) == 100
    assert level.numpy() == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)
    assert float(level_of_blocks([np.zeros((1, 1600), np.float32)]).max()) == pytest.approx(-80)


def test_offset_is_told_by_sound_before_mouths():
    level, mouth = noise(400), noise(100, 1)
    found = find_offset(tracked(mouth[4:], level=level[20:]), tracked(mouth, level=level))
    assert found.by == "sound"
    assert found.seconds == pytest.approx(-0.2, abs=0.006)
    assert found.frames(Fraction(25)) == -5


def test_offset_without_sound_is_told_by_mouths_then_pictures():
    mouth, still = noise(100, 1), torch.zeros(90)
    by_mouth = find_offset(tracked(mouth[4:]), tracked(mouth, level=noise(300)))
    assert (by_mouth.by, by_mouth.frames(Fraction(25))) == ("mouth", -4)
    pictures = torch.randint(0, 256, (90, 256), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    by_picture = find_offset(tracked(still[:80], pictures[:80]), tracked(still[:85], pictures[5:]))
    assert (by_picture.by, by_picture.frames(Fraction(25))) == ("pictures", 5)


def test_offset_of_strangers_is_not_found():
    a = torch.randint(0, 256, (90, 256), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    b = torch.randint(0, 256, (90, 256), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    found = find_offset(tracked(noise(90), a, noise(360, 6)), tracked(noise(90, 5), b, noise(360, 7)))
    assert found == Offset(None, "nothing", None, found.note)
    assert "not alike" in found.note
    assert found.frames(Fraction(25)) == 0


def test_frames_are_paired_by_time_and_by_the_offset_where_it_is_taken_out():
    made, true = tracked(noise(40)), tracked(noise(30))
    late, early = Offset(0.2, "sound", 1.0), Offset(-0.2, "sound", 1.0)
    assert pair_frames(made, true, late, align=False) == FramePairing(0, 0, 30)
    assert pair_frames(made, true, late, align=True) == FramePairing(5, 0, 30)
    assert pair_frames(made, true, early, align=True) == FramePairing(0, 5, 25)
    assert pair_frames(made, true, early, align=True, max_frames=9) == FramePairing(0, 5, 9)
    with pytest.raises(InputError, match=r"once the offset of 0\.20 s is taken out"):
        pair_frames(tracked(noise(4)), true, late, align=True)
    with pytest.raises(MediaError, match="one of them holds none"):
        pair_frames(tracked(noise(0)), true, late, align=False)
