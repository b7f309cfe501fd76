"""Sums and maxima of neighbours, beside scipy's filters."""

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, uniform_filter1d

from portraittalk_core.face.segmentation.guided import sliding_max, sliding_sum
from portraittalk_core.face.segmentation.person import grown

PLANES = torch.rand(1, 2, 20, 23, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [1, 2, 5, 8, 11, 19])
@pytest.mark.parametrize("axis", [2, 3])
def test_sums_of_neighbours_are_those_of_a_uniform_filter(length, axis):
    values = PLANES.numpy()
    expected = length * uniform_filter1d(values.astype(np.float64), length, axis=axis, origin=-(length // 2))
    count = values.shape[axis] - length + 1
    found = sliding_sum(PLANES, length, axis).numpy()
    np.testing.assert_allclose(found, np.moveaxis(np.moveaxis(expected, axis, 0)[:count], 0, axis), rtol=0, atol=1e-5)
    assert sliding_max(PLANES, length, axis).shape == found.shape


@pytest.mark.parametrize("radius", [0, 1, 3, 6, 30])
def test_a_grown_mask_is_a_maximum_filter(radius):
    expected = maximum_filter(PLANES.numpy(), (1, 1, 2 * radius + 1, 2 * radius + 1), mode="constant", cval=-1)
    np.testing.assert_array_equal(grown(PLANES, radius).numpy(), expected)
