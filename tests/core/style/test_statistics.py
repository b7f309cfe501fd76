import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import PLAIN_RISE, rotation_matrix
from portraittalk_core.style.presets import PRESETS, preset
from portraittalk_core.style.statistics import measure_statistics, to_numbers, to_statistics
from portraittalk_core.types import STYLE_STATISTICS, LandmarkTrack, StyleStatistics

FPS, SECONDS, PX = Fraction(25), 12, 100.0
COUNT = SECONDS * 25


def made(change, valid=None) -> LandmarkTrack:
    """A plain face, 100 px between the eyes, to which `change(points, seconds)` is done."""
    times = torch.arange(COUNT) / 25
    face = canonical_face()
    points = torch.cat([face, face[:1].expand(478 - len(face), -1)]) if len(face) < 478 else face
    points = points[None].repeat(COUNT, 1, 1)
    points = change(points, times)
    return LandmarkTrack.from_px(PX * points + torch.tensor([256.0, 256, 0]), 512, 512, FPS, valid)


def still(points, times):
    return points


def measured(track):
    return dict(zip(STYLE_STATISTICS, measure_statistics(track).mean(0).tolist(), strict=True))


def test_still_face_moves_in_nothing():
    found = measured(made(still))
    moving = [n for n in STYLE_STATISTICS if n not in ("smile", "rest_opening", "blink_s")]
    assert all(abs(found[name]) < 1e-3 for name in moving)
    assert found["smile"] == pytest.approx(-PLAIN_RISE, abs=1e-3)  # its corners are the canonical face's


def test_opening_is_the_lips_swing_over_the_mouths_width():
    def change(points, times):
        points[:, 14, 1] += 0.05 * (1 - torch.cos(2 * math.pi * times))  # 0 .. 0.1
        return points

    width = float((canonical_face()[61] - canonical_face()[291]).norm())
    # of a raised cosine the 10th and 90th percentiles lie cos(0.1π) of the whole swing apart
    expected = 0.1 * math.cos(0.1 * math.pi) / width
    assert measured(made(change))["opening"] == pytest.approx(expected, rel=0.05)


def test_head_swing_is_measured_in_degrees_and_hertz():
    def change(points, times):
        angles = torch.zeros(COUNT, 3)
        angles[:, 2] = 5 * torch.sin(2 * math.pi * 0.5 * times)  # rolls, so that no perspective enters
        return points @ rotation_matrix(angles).transpose(1, 2)

    found = measured(made(change))
    assert found["head_deg"] == pytest.approx(5 / math.sqrt(2) / math.sqrt(3), rel=0.08)
    assert found["head_hz"] == pytest.approx(0.5, rel=0.1)
    assert found["opening"] < 0.01  # a turning head opens no mouth


def test_blinks_are_counted_and_timed():
    def change(points, times):
        shut = ((times % 3.0) < 0.2)[:, None]
        for upper, lower in ((159, 145), (386, 374)):
            points[:, upper] = torch.where(shut, points[:, lower], points[:, upper])
        return points

    found = measured(made(change))
    assert found["blink_rate"] == pytest.approx(20, rel=0.05) and found["blink_s"] == pytest.approx(0.2, abs=0.041)


def test_smile_and_brows_are_seen():
    def smile(points, times):
        points[:, [61, 291], 1] -= 0.05
        return points

    def brows(points, times):
        points[:, [105, 334], 1] -= 0.02 * (1 + torch.sin(2 * math.pi * times))[:, None]
        return points

    assert measured(made(smile))["smile"] - measured(made(still))["smile"] == pytest.approx(0.05, abs=0.005)
    assert measured(made(brows))["brow"] == pytest.approx(0.04 * math.cos(0.1 * math.pi), rel=0.1)


def test_size_and_place_of_the_face_do_not_matter():
    def change(points, times):
        points[:, 14, 1] += 0.05 * (1 - torch.cos(2 * math.pi * times))
        return points

    def far(points, times):
        return 0.5 * change(points, times) + torch.tensor([0.4, -0.3, 0])

    near, small = measure_statistics(made(change)), measure_statistics(made(far))
    assert torch.allclose(near, small, atol=2e-3)


def test_windows_and_rejects():
    assert measure_statistics(made(still)).shape == (5, 11)  # 12 s, windows of 4 s every 2 s
    with pytest.raises(InputError, match=r"lasts 0\.96 s"):
        measure_statistics(made(still).slice(0, 24))
    valid = torch.arange(COUNT) < 100
    with pytest.raises(InputError, match="100 of 300 frames"):
        measure_statistics(made(still, valid))


def test_numbers_become_a_manner_that_can_be():
    numbers = to_numbers(StyleStatistics())
    again = to_statistics(numbers)
    assert [getattr(again, n) for n in STYLE_STATISTICS] == pytest.approx(
        [getattr(StyleStatistics(), n) for n in STYLE_STATISTICS]
    )
    assert to_statistics(numbers - 100).opening == 0 and to_statistics(numbers - 1).smile == pytest.approx(-1)
    assert to_statistics(numbers, 0.5).strength == 0.5


def test_presets_differ_as_their_names_say():
    assert preset("lively").head_deg > preset("calm").head_deg and preset("lively").opening > preset("calm").opening
    assert preset("smiling").smile > 0.03 and preset("whispering").opening < preset("emphatic").opening
    assert len(set(map(str, PRESETS.values()))) == len(PRESETS)
    with pytest.raises(InputError, match="cheerful"):
        preset("cheerful")
    assert replace(preset("calm"), strength=2).strength == 2
