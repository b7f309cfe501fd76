import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from portraittalk_core.errors import ShapeError
from portraittalk_core.losses.equivariance import RandomWarp, equivariance_loss


def drawn(num=2, seed=0, **sigmas):
    return RandomWarp.draw(num, torch.Generator().manual_seed(seed), **sigmas)


def test_warp_without_deviations_is_the_identity():
    warp, points = drawn(sigma_affine=0, sigma_tps=0), torch.rand(2, 7, 2) * 2 - 1
    assert torch.allclose(warp.points(points), points)
    pictures = torch.rand(2, 3, 9, 11)
    assert torch.allclose(warp.pictures(pictures), pictures, atol=1e-5)


def test_warp_is_a_thin_plate_spline_as_scipy_has_it():
    """scipy's spline through the warp's own values at many places is the warp everywhere, if the kernel is r² log r."""
    warp = drawn(1, sigma_tps=0.05)
    here = warp.control[None]
    warp = RandomWarp(warp.affine, warp.control, _without_moments(warp))
    spline = RBFInterpolator(warp.control.numpy(), warp.points(here)[0].numpy(), kernel="thin_plate_spline", degree=1)
    places = torch.rand(1, 40, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert np.allclose(spline(places[0].numpy()), warp.points(places)[0].numpy(), atol=1e-4)


def _without_moments(warp):
    """Weights whose sums with 1, x and y are 0, as those of an interpolating spline are."""
    basis = torch.cat([torch.ones(len(warp.control), 1), warp.control], 1)
    own = torch.linalg.lstsq(basis, warp.weights[0]).solution
    return (warp.weights[0] - basis @ own)[None]


def test_warped_picture_shows_at_p_what_the_picture_has_at_the_warped_p():
    warp = RandomWarp(torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]]), torch.zeros(1, 2), torch.zeros(1, 1, 2))
    picture = torch.zeros(1, 1, 5, 5)
    picture[..., 2, 3] = 1  # at x = 0.5, y = 0
    warped = warp.pictures(picture)
    assert warped[0, 0, 2, 2] == 1 and warped[..., :4].sum() == 1  # now in the middle; the last column is a reflection
    at, of_warped = torch.tensor([[[0.5, 0.0, 0.3]]]), torch.tensor([[[0.0, 0.0, 0.9]]])
    assert equivariance_loss(at, of_warped, warp) == 0  # depth does not count
    assert torch.isclose(equivariance_loss(at, at, warp), torch.tensor(0.25))  # half a unit in x, nothing in y


def test_equivariance_rejects_other_numbers_of_keypoints():
    with pytest.raises(ShapeError, match="keypoints of warped pictures"):
        equivariance_loss(torch.zeros(2, 15, 3), torch.zeros(2, 14, 3), drawn())
