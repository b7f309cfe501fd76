"""Thin-plate spline beside SciPy's, with and without smoothing."""

import pytest
import torch
from scipy.interpolate import RBFInterpolator

from portraittalk_core.layers.thin_plate_spline import thin_plate_spline


@pytest.mark.parametrize("smoothing", [0.0, 6e-4, 0.1])
def test_spline_is_scipys(smoothing):
    """SciPy's kernel is r² log r, half of this one's r² log r², and so is its smoothing."""
    draw = torch.Generator().manual_seed(1)
    centres, places = (torch.rand(count, 2, generator=draw) for count in (30, 50))
    values = torch.randn(30, 4, generator=draw)
    expected = RBFInterpolator(centres, values, smoothing=smoothing / 2, kernel="thin_plate_spline", degree=1)(places)
    found = thin_plate_spline(centres, values, places, smoothing)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=2e-3, rtol=1e-3)


def test_unit_changes_the_smoothing_alone():
    draw = torch.Generator().manual_seed(2)
    centres, values = torch.rand(12, 2, generator=draw), torch.randn(12, 2, generator=draw)
    exact = thin_plate_spline(100 * centres, values, 100 * centres, 0.0, unit=100.0)
    torch.testing.assert_close(exact, values, atol=1e-3, rtol=0)
    smooth = [thin_plate_spline(s * centres, values, s * centres, 1e-2, unit=s) for s in (1.0, 100.0)]
    torch.testing.assert_close(*smooth, atol=1e-4, rtol=1e-3)
