import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.lip_points import MOUTH_POINTS
from portraittalk_core.face.sharpness import mouth_sharpness


@pytest.fixture
def points() -> torch.Tensor:
    return canonical_face() * 60 + torch.tensor([100.0, 90.0, 0.0])


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randint(0, 256, (200, 220, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def by_scipy(picture: torch.Tensor, points: torch.Tensor) -> float:
    mouth = points[list(MOUTH_POINTS), :2].numpy()
    low, high = mouth.min(0), mouth.max(0)
    (left, top), (right, bottom) = (low - 0.2 * (high - low)).astype(int), (high + 0.2 * (high - low)).astype(int)
    grey = picture.numpy().astype(float) @ (0.299, 0.587, 0.114)
    return laplace(grey)[top + 1 : bottom, left + 1 : right].var()


def test_sharpness_is_the_variance_of_scipys_laplacian_around_the_lips(picture, points):
    assert mouth_sharpness(picture, points) == pytest.approx(by_scipy(picture, points), rel=1e-4)


def test_a_blurred_mouth_is_less_sharp_and_the_rest_does_not_count(picture, points):
    blurred = torch.from_numpy(gaussian_filter(picture.numpy().astype(float), (2, 2, 0)).astype(np.uint8))
    assert mouth_sharpness(blurred, points) < 0.1 * mouth_sharpness(picture, points)
    elsewhere = picture.clone()
    elsewhere[:60] = 0
    assert mouth_sharpness(elsewhere, points) == mouth_sharpness(picture, points)


@pytest.mark.parametrize("move", [(1000.0, 0.0), (-1000.0, 0.0), (0.0, 900.0), (0.0, -900.0)])
def test_a_mouth_outside_the_picture_has_none(picture, points, move):
    assert mouth_sharpness(picture, points + torch.tensor([*move, 0.0])) == 0
