import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.sync_crop import sync_boxes, sync_crop


def test_box_of_a_still_face_is_as_published():
    # a face of 100×120 about (200, 150): half the larger side is 60; the square reaches 60 up, 108 down, 84 aside
    boxes = torch.tensor([[150.0, 90, 250, 210]]).repeat(20, 1)
    torch.testing.assert_close(
        sync_boxes(boxes), torch.tensor([[116.0, 90, 284, 258]], dtype=torch.float64).repeat(20, 1)
    )


def test_boxes_are_steadied_by_a_median_of_13():
    noise = np.random.default_rng(0)
    x = 100 + noise.normal(size=60).cumsum()
    boxes = torch.from_numpy(np.stack([x, 0 * x + 20, x + 80, 0 * x + 100], 1))
    found = sync_boxes(boxes)[:, 0].numpy()
    np.testing.assert_allclose(found[6:-6], medfilt(x + 40, 13)[6:-6] - 56, atol=1e-9)
    spiked = boxes.clone()
    spiked[30, [0, 2]] += 500  # one wild box moves nothing far
    assert float((sync_boxes(spiked)[:, 0] - sync_boxes(boxes)[:, 0]).abs().max()) < 5


def test_crop_shows_the_square_and_grey_beyond():
    picture = torch.full((100, 100, 3), 200, dtype=torch.uint8)
    inside = sync_crop(picture, torch.tensor([10.0, 10, 90, 90]))
    assert inside.shape == (224, 224, 3)
    assert inside.unique().tolist() == [200]
    beyond = sync_crop(picture, torch.tensor([-56.0, -56, 56, 56]))  # two pixels each
    assert beyond[:100, :100].unique().tolist() == [110]
    assert beyond[124:, 124:].unique().tolist() == [200]


def test_crop_scales_as_the_mean_of_pixels():
    picture = torch.zeros(448, 448, 3, dtype=torch.uint8)
    picture[:, 224:] = 255
    half = sync_crop(picture, torch.tensor([0.0, 0, 448, 448]))
    assert half[:, :108].max() == 0 and half[:, 116:].min() == 255


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(0, 4), "one or more"),
        (torch.zeros(3, 4), "x0 < x1"),
        (torch.zeros(3, 5), "shape"),
        (torch.full((3, 4), torch.nan), "NaN"),
    ],
)
def test_boxes_reject(boxes, message):
    with pytest.raises(InputError, match=message):
        sync_boxes(boxes)
