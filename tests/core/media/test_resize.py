"""The oracles are Pillow in floating point, OpenCV, and averages by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.media.resize import resize_picture, resize_planes, resize_unfiltered, shrink_quickly

SIZES = [(20, 31), (64, 96), (150, 77)]  # of a picture of 90 × 70


@pytest.fixture(scope="module")
def picture():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8))


def by_pillow(picture, size, kernel):
    """(height, width, 3) float: Pillow's filters on each colour, in single precision."""
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(picture.numpy(), 2, 0)]
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    return np.stack([np.array(plane.resize(size[::-1], filters[kernel])) for plane in planes], 2)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", SIZES)
def test_filtered_sizes_match_pillow_in_floating_point(picture, size, kernel):
    expected = by_pillow(picture, size, kernel)
    planes = resize_planes(picture.permute(2, 0, 1)[None].float(), size, kernel)[0].permute(1, 2, 0)
    np.testing.assert_allclose(planes.numpy(), expected, atol=5e-3)
    found = resize_picture(picture, size, kernel)
    assert found.dtype == torch.uint8 and found.shape == (*size, 3) and found.is_contiguous()
    assert np.abs(found.numpy() - np.clip(expected, 0, 255)).max() < 0.51


@pytest.mark.parametrize("size", SIZES)
def test_unfiltered_size_matches_opencv(picture, size):
    cv2 = pytest.importorskip("cv2")
    expected = cv2.resize(picture.numpy(), size[::-1])
    found = resize_unfiltered(picture, size)
    assert (found == found.round()).all()
    assert np.abs(found.numpy() - expected).max() <= 1


def test_unfiltered_size_sees_four_pixels_alone():
    stripes = torch.tensor([0, 90, 30, 0, 0, 60, 240, 0], dtype=torch.uint8)[None, :, None].expand(4, 8, 3)
    assert resize_unfiltered(stripes, (1, 2))[0, :, 0].tolist() == [60, 150]  # the middles of four pixels each


def test_quick_size_is_nearly_filtered(picture):
    smooth = resize_picture(resize_picture(picture, (6, 5)), (900, 700))
    expected = by_pillow(smooth, (90, 70), "bilinear")
    assert np.abs(shrink_quickly(smooth, (90, 70)).numpy() - expected).max() <= 1.5
    checks = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(320, 320)[..., None].repeat(1, 1, 3)
    assert set(shrink_quickly(checks, (40, 40)).flatten().tolist()) <= {127, 128}


def test_a_picture_of_the_size_is_itself(picture):
    assert resize_picture(picture, (90, 70)) is picture
    assert shrink_quickly(picture, (90, 70)) is picture
