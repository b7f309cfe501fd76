import math

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.landmark_distance import FACE_POINTS, MOUTH_POINTS, VARIANTS, lmd, lmd_variant
from portraittalk_core.metrics.points68 import POINTS_68, to_68

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


def test_lmd_sum_adds_up_what_the_mean_averages():
    other = POINTS + torch.randn(POINTS.shape, generator=torch.Generator().manual_seed(2))
    summed, mean = lmd(other, POINTS, "euclid_sum"), lmd(other, POINTS)
    torch.testing.assert_close(summed, 20 * mean)


def mesh(seed: int) -> torch.Tensor:
    return 512 * torch.rand(4, 478, 3, generator=torch.Generator().manual_seed(seed))


def test_the_68_points_are_in_their_places():
    assert len(set(POINTS_68)) == len(POINTS_68) == 68
    assert POINTS_68[8] == 152  # the chin
    assert POINTS_68[30] == 4  # the nose's tip
    assert (POINTS_68[36], POINTS_68[45]) == (33, 263)  # outer corners of the eyes
    assert (POINTS_68[48], POINTS_68[54], POINTS_68[62], POINTS_68[66]) == (61, 291, 13, 14)  # mouth
    assert to_68(mesh(0)).shape == (4, 68, 3)
    with pytest.raises(InputError, match="MediaPipe's landmarks"):
        to_68(POINTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_match_numpy(name):
    a, b = (np.asarray(to_68(mesh(seed))[..., :2], dtype=np.float64) for seed in (1, 2))
    if name != "f_lmd":
        a, b = a[:, 48:], b[:, 48:]
    if name == "lmd_lip":
        expected = np.abs(a - b).mean((1, 2))
    else:
        apart = np.hypot(*np.moveaxis((a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True)), 2, 0))
        expected = apart.sum(1) if name == "lmd_atvg" else apart.mean(1) / 2  # 256 of 512
    np.testing.assert_allclose(lmd_variant(name, mesh(1), mesh(2), 512).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_symmetric_zero_for_identical_and_grow_with_noise(name):
    a, b, noise = mesh(1), mesh(2), mesh(3) - 256
    torch.testing.assert_close(lmd_variant(name, a, b, 512), lmd_variant(name, b, a, 512))
    found = [float(lmd_variant(name, a + level * noise, a, 512).mean()) for level in (0, 0.01, 0.02, 0.1)]
    assert found[0] == 0
    assert found == sorted(set(found))


def test_variants_see_a_shift_only_where_nothing_is_centred():
    shifted = mesh(1) + torch.tensor([3.0, 4.0, 0.0])
    found = {name: float(lmd_variant(name, shifted, mesh(1), 512).mean()) for name in VARIANTS}
    assert found.pop("lmd_lip") == pytest.approx(3.5, abs=1e-4)
    assert max(found.values()) < 1e-3
