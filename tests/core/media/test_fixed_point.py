"""8-bit picture arithmetic against OpenCV itself where it is installed, and against what is known without it."""

import numpy as np
import pytest
import torch

from portraittalk_core.media.fixed_point import blurred, filled_polygon, resized


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def face_outline(draw: np.random.Generator) -> np.ndarray:
    """(27, 2) jaw from ear to ear, and the brows back: two tops, not convex, with some shake."""
    around = np.linspace(np.pi, 0, 17)
    centre, size = draw.uniform(40, 160, 2), draw.uniform(20, 80, 2)
    jaw = centre + size * np.stack([np.cos(around), np.sin(around)], 1)
    across = np.concatenate([np.linspace(0.9, 0.15, 5), np.linspace(-0.15, -0.9, 5)])
    brows = centre + size * np.stack([across, -0.35 - 0.15 * np.sin(3 * abs(across))], 1)
    return (np.concatenate([jaw, brows]) + draw.normal(0, 2, (27, 2))).astype(np.int32)


def test_resize_is_opencvs_to_the_last_bit(draw):
    cv2 = pytest.importorskip("cv2")
    sizes = [tuple(int(side) for side in draw.integers(2, 300, 4)) for _ in range(25)]
    for height, width, h, w in [*sizes, (128, 128, 128, 128), (256, 256, 128, 128), (300, 200, 128, 128)]:
        picture = draw.integers(0, 256, (height, width, 3)).astype(np.uint8)
        ours = resized(torch.from_numpy(picture), w, h)
        assert np.array_equal(ours.numpy(), cv2.resize(picture, (w, h))), (height, width, h, w)


def test_blur_is_opencvs_to_the_last_bit(draw):
    cv2 = pytest.importorskip("cv2")
    for size, sigma in (21, 11.0), (5, 1.2), (1, 1.0), (33, 7.7):
        mask = draw.integers(0, 256, (61, 83)).astype(np.uint8)
        assert np.array_equal(blurred(torch.from_numpy(mask), size, sigma), cv2.GaussianBlur(mask, (size, size), sigma))


def test_polygons_are_opencvs_to_the_last_bit(draw):
    cv2 = pytest.importorskip("cv2")
    for number in range(60):
        corners = face_outline(draw) if number % 2 else draw.integers(0, 200, (3, 2)).astype(np.int32)
        expected = cv2.fillConvexPoly(np.zeros((200, 200), np.uint8), corners, 255)
        assert np.array_equal(filled_polygon(torch.from_numpy(corners), 200, 200), expected), number


def test_known_values_without_opencv():
    ramp = torch.tensor([0, 100], dtype=torch.uint8)[None, :, None].expand(2, 2, 3)
    # a quarter and three quarters between the two pixels, the outermost beyond them
    assert resized(ramp, 4, 2)[..., 0].tolist() == [[0, 25, 75, 100]] * 2
    dot = torch.zeros(21, 21, dtype=torch.uint8)
    dot[10, 10] = 255
    spread = blurred(dot, 5, 1.0)
    assert int(spread[10, 10]) == pytest.approx(255 * 0.4026**2, abs=1)  # the kernel's middle, squared
    assert torch.equal(spread, spread.T) and int(spread[10, 13]) == 0
    assert (blurred(torch.full((9, 9), 200, dtype=torch.uint8), 21, 11.0) == 200).all()
    square = filled_polygon(torch.tensor([[2, 1], [5, 1], [5, 4], [2, 4]]), 8, 6)
    expected = torch.zeros(6, 8, dtype=torch.uint8)
    expected[1:5, 2:6] = 255
    assert torch.equal(square, expected)
    beyond = filled_polygon(torch.tensor([[-5, -5], [20, -5], [20, 20], [-5, 20]]), 8, 6)
    assert (beyond == 255).all()
