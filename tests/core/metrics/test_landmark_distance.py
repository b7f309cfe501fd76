import math

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.landmark_distance import FACE_POINTS, MOUTH_POINTS, lmd

POINTS = 100 * torch.rand(3, 20, 2, generator=torch.Generator().manual_seed(1))
SHIFT = torch.tensor([3.0, 4.0])
FACE = torch.zeros(3, 478, 2)
FACE[:, [33, 133]], FACE[:, [362, 263]] = torch.tensor([40.0, 50]), torch.tensor([90.0, 50])  # eyes 50 px apart
FACE[:, 152] = torch.tensor([90.0, 120])  # the box is 90×120, its diagonal 150


@pytest.mark.parametrize(("kind", "expected"), [("l1_raw", 3.5), ("euclid_raw", 5.0), ("euclid_centred", 0.0)])
def test_lmd_of_a_shift(kind, expected):
    got = lmd(POINTS + SHIFT, POINTS, kind=kind)
    torch.testing.assert_close(got, torch.full((3,), expected, dtype=torch.float64), atol=1e-5, rtol=0)


def test_lmd_of_a_square_twice_as_large():
    square = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
    assert float(lmd(2 * square, square)[0]) == pytest.approx(math.sqrt(2), abs=1e-6)


@pytest.mark.parametrize(("norm", "expected"), [("none", 5.0), ("interocular", 10.0), ("face_size", 5 / 1.5)])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_lmd_norms_are_free_of_resolution(norm, expected, scale):
    got = lmd(scale * (FACE + SHIFT), scale * FACE, "euclid_raw", norm=norm)
    assert got.tolist() == pytest.approx([expected * (scale if norm == "none" else 1.0)] * 3, abs=1e-4)


@pytest.mark.parametrize(("points", "inside", "outside"), [("mouth", 13, 33), ("face", 33, 468), ([5, 6], 6, 7)])
def test_lmd_looks_at_the_chosen_points_only(points, inside, outside):
    for moved, far in ((inside, True), (outside, False)):
        other = FACE.clone()
        other[:, moved] += SHIFT
        assert bool((lmd(other, FACE, points=points) > 0).all()) is far


def test_lmd_velocity_compares_steps():
    times = torch.arange(3.0)[:, None, None]
    got = lmd(POINTS + SHIFT + times * SHIFT, POINTS, "euclid_raw", velocity=True)
    assert got.tolist() == pytest.approx([5.0, 5.0], abs=1e-4)  # the shift itself does not count


@pytest.mark.parametrize(
    ("generated", "options", "message"),
    [
        (POINTS[:2], {}, "cannot be compared"),
        (POINTS * float("nan"), {}, "NaN"),
        (POINTS, {"norm": "interocular"}, "whole face.*20 were given"),
        (POINTS, {"points": "mouth"}, "whole face.*20 were given"),
        (POINTS, {"points": [20]}, "from 0 to 19"),
        (POINTS, {"points": []}, "at least one"),
        (POINTS, {"points": "nose"}, "points must be one of"),
        (POINTS, {"kind": "l7"}, "kind must be one of"),
        (POINTS, {"norm": "shoe"}, "norm must be one of"),
    ],
)
def test_lmd_rejects(generated, options, message):
    with pytest.raises(InputError, match=message):
        lmd(generated, POINTS, **options)


def test_mouth_points_are_both_lip_contours():
    assert len(MOUTH_POINTS) == len(set(MOUTH_POINTS)) == 40
    assert {13, 14, 0, 17, 61, 291, 78, 308} < set(MOUTH_POINTS) < set(FACE_POINTS)
