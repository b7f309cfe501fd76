"""Crops against OpenCV and scikit-image, used the way InsightFace aligns faces."""

import math

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.arcface_crop import TEMPLATE, arcface_template, face_mask, norm_crop, similarity

FACE = torch.tensor(TEMPLATE, dtype=torch.float64)


def turned(points: torch.Tensor, degrees: float, scale: float, shift: tuple[float, float]) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return points @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64) + torch.tensor(shift)


def random_faces(count: int = 12) -> list[torch.Tensor]:
    """Five points in and around a picture of 512 px, at any angle, not in perfect proportion."""
    draw = torch.Generator().manual_seed(4)
    faces = []
    for _ in range(count):
        angle, scale, x, y = torch.rand(4, generator=draw).tolist()
        points = turned(FACE - 56, angle * 360, 0.4 + 3 * scale, (100 + 312 * x, 100 + 312 * y))
        faces.append(points + torch.randn(5, 2, generator=draw, dtype=torch.float64) * 4 * (0.4 + 3 * scale))
    return faces


def skimage_transform(points: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    kind = pytest.importorskip("skimage.transform").SimilarityTransform
    if hasattr(kind, "from_estimate"):
        return kind.from_estimate(points.numpy(), target.numpy()).params[:2]
    transform = kind()
    transform.estimate(points.numpy(), target.numpy())
    return transform.params[:2]


@pytest.mark.parametrize("size", [112, 128, 224, 256])
def test_transform_matches_skimage(size):
    for points in random_faces():
        target = arcface_template(size)
        np.testing.assert_allclose(similarity(points, target), skimage_transform(points, target), atol=1e-4)


def test_transform_of_a_mirrored_face_matches_skimage():
    mirrored = FACE * torch.tensor([-1.0, 1.0]) + torch.tensor([200.0, 3.0])
    matrix = similarity(mirrored, FACE)
    np.testing.assert_allclose(matrix, skimage_transform(mirrored, FACE), atol=1e-4)
    assert torch.linalg.det(matrix[:, :2]) > 0


def test_transform_undoes_a_known_turn():
    matrix = similarity(turned(FACE, 30, 2, (7, 9)), FACE)
    back = turned(FACE, 30, 2, (7, 9)) @ matrix[:, :2].T + matrix[:, 2]
    torch.testing.assert_close(back, FACE)
    assert torch.linalg.det(matrix[:, :2]).item() == pytest.approx(0.25)


@pytest.mark.parametrize("size", [112, 128, 224, 256])
def test_crop_matches_opencv(size):
    cv2, data = pytest.importorskip("cv2"), pytest.importorskip("skimage.data")
    picture = data.astronaut()
    for points in random_faces():
        matrix = skimage_transform(points, arcface_template(size))
        expected = cv2.warpAffine(picture, matrix, (size, size), borderValue=0.0)
        ours = norm_crop(torch.from_numpy(picture.copy()), points, size).numpy()
        assert np.abs(ours.astype(float) - expected).mean() < 1
        assert (np.abs(ours.astype(float) - expected) > 16).mean() < 0.01  # OpenCV rounds places to 1/32 px


def test_template_of_both_families():
    torch.testing.assert_close(arcface_template(224), FACE * 2)
    torch.testing.assert_close(arcface_template(128), FACE + torch.tensor([8.0, 0.0]))
    torch.testing.assert_close(arcface_template(256), FACE * 2 + torch.tensor([16.0, 0.0]))
    torch.testing.assert_close(arcface_template(896), FACE * 8)  # a multiple of both counts as one of 112


def test_face_in_its_place_is_cut_out_untouched():
    picture = torch.randint(0, 256, (112, 112, 3), dtype=torch.uint8)
    assert torch.equal(norm_crop(picture, FACE), picture)
    shifted = norm_crop(picture, FACE + torch.tensor([-10.0, 0.0]))
    assert torch.equal(shifted[:, 10:], picture[:, :-10]) and not shifted[:, :9].any()


def test_face_outside_of_the_picture_is_black():
    assert not norm_crop(torch.full((64, 64, 3), 255, dtype=torch.uint8), FACE + 5000).any()


def test_mask_covers_the_face_and_nothing_else():
    points = turned(FACE - 56, 40, 1.5, (150, 120))
    mask = face_mask(points, 240, 320)
    assert mask.shape == (240, 320) and mask.min() >= 0 and mask.max() <= 1
    for x, y in points.round().long().tolist():
        assert mask[y, x] == 1
    assert mask[0].max() == 0 and mask[:, 0].max() == 0 and mask[-1].max() == 0 and mask[:, -1].max() == 0
    assert ((mask > 0) & (mask < 1)).any()
    # the oval's area, at half height, is π times its radii in the picture
    assert mask.sum().item() == pytest.approx(math.pi * 43 * 54 * 1.5**2, rel=0.01)


def test_mask_of_a_face_at_the_edge_is_a_part_of_the_whole():
    points = turned(FACE - 56, -20, 2, (300, 260))
    whole = face_mask(points, 600, 640)
    torch.testing.assert_close(face_mask(points - torch.tensor([280.0, 250.0]), 200, 360), whole[250:450, 280:640])
    assert not face_mask(points + 5000, 100, 100).any() and not face_mask(points - 5000, 100, 100).any()


NAN = float("nan")


@pytest.mark.parametrize(
    ("points", "size", "words"),
    [
        (FACE, 100, "multiple of 112 or 128 pixels wide, not 100"),
        (FACE, 0, "not 0"),
        (FACE[:4], 112, r"shape \(5, 2\), but has \(4, 2\)"),
        (FACE * NAN, 112, "NaN"),
        (FACE * 0 + 3, 112, "all in one place"),
        (FACE * 0 + 1e-3, 112, "all in one place"),
    ],
)
def test_bad_faces_are_refused(points, size, words):
    with pytest.raises(InputError, match=words):
        norm_crop(torch.zeros(200, 200, 3, dtype=torch.uint8), points, size)


def test_float_pictures_are_refused():
    with pytest.raises(InputError, match="must be uint8"):
        norm_crop(torch.zeros(200, 200, 3), FACE)
