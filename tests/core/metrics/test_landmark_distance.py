import math

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.landmark_distance import MOUTH_POINTS, landmark_distance

POINTS = 100 * torch.rand(3, 20, 2, generator=torch.Generator().manual_seed(1))
SHIFT = torch.tensor([3.0, 4.0])


@pytest.mark.parametrize(("kind", "expected"), [("l1_raw", 3.5), ("euclid_raw", 5.0), ("euclid_centred", 0.0)])
def test_distance_of_a_shift(kind, expected):
    got = landmark_distance(POINTS + SHIFT, POINTS, kind=kind)
    torch.testing.assert_close(got, torch.full((3,), expected, dtype=torch.float64), atol=1e-5, rtol=0)


def test_distance_of_a_square_twice_as_large():
    square = torch.tensor([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
    assert float(landmark_distance(2 * square, square)[0]) == pytest.approx(math.sqrt(2), abs=1e-6)


def test_distance_by_the_eyes_is_free_of_resolution():
    face = torch.zeros(1, 478, 2)
    face[:, [33, 133]], face[:, [362, 263]] = torch.tensor([40.0, 50]), torch.tensor([90.0, 50])
    for scale in (1.0, 3.0):
        got = landmark_distance(
            scale * (POINTS[:1] + SHIFT), scale * POINTS[:1], "euclid_raw", "interocular", scale * face
        )
        assert float(got[0]) == pytest.approx(10.0, abs=1e-4)  # 5 of 50


def test_distance_rejects_what_does_not_fit():
    with pytest.raises(InputError, match="cannot be compared"):
        landmark_distance(POINTS[:2], POINTS)
    with pytest.raises(InputError, match="reference_px"):
        landmark_distance(POINTS, POINTS, norm="interocular")
    with pytest.raises(InputError, match="kind must be one of"):
        landmark_distance(POINTS, POINTS, kind="l7")


def test_mouth_points_are_both_lip_contours():
    assert len(MOUTH_POINTS) == len(set(MOUTH_POINTS)) == 40
