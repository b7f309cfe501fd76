import torch

from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.face.canonical import canonical_face


def test_edges_are_smooth_curves_through_their_points():
    """A parabola known at uneven places comes back as itself between its ends, where straight pieces would miss it."""
    points = canonical_face()[:, :2] * 100
    u = torch.tensor([-50.0, -44, -33, -21, -9, 0, 10, 20, 33, 45, 50])
    for chain, bend in zip(MOUTH, (-0.012, 0.02), strict=True):
        points[list(chain)] = torch.stack([u, bend * (50 - u) * (50 + u)], 1)
    mouth = Aperture.of(points, MOUTH)
    at = torch.linspace(-43, 43, 400).view(2, -1)
    for height, bend in zip(mouth.edge_heights(at), (-0.012, 0.02), strict=True):
        assert (height - bend * (50 - at) * (50 + at)).abs().max() < 0.03
    beyond = mouth.edge_heights(torch.tensor([-80.0, 80.0]))
    assert torch.cat(beyond).abs().max() < 1e-3  # the corners' own height


def test_an_edge_that_folds_back_at_a_corner_has_no_spike():
    """The far corner of a turned mouth lies before the points that follow it: the curve stays within its points."""
    points = canonical_face()[:, :2] * 100
    u = torch.tensor([-50.0, -53, -54, -52, -40, -20, 0, 20, 35, 45, 50])
    for chain, bend in zip(MOUTH, (-0.004, 0.01), strict=True):
        v = bend * (50 - u) * (50 + u)
        v[1:4] = torch.tensor([10.0, 15, 20]) * bend / abs(bend)
        points[list(chain)] = torch.stack([u, v], 1)
    upper, lower = Aperture.of(points, MOUTH).edge_heights(torch.linspace(-60, 60, 500))
    assert float(upper.min()) > -20 - 1 and float(lower.max()) < 25 + 1


def test_places_in_the_picture_and_on_the_axes_are_the_same_places():
    mouth = Aperture.of(canonical_face()[:, :2] @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]]) * 100, MOUTH)  # tilted
    u, v = torch.linspace(-40, 40, 5), torch.linspace(-9, 9, 12).view(4, 3, 1)
    for found, expected in zip(
        mouth.axes_of(mouth.pixels_of(u, v)), (u.expand(4, 3, 5), v.expand(4, 3, 5)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    below = mouth.pixels_of(torch.tensor(0.0), torch.tensor(5.0)) - mouth.origin
    assert float(below @ mouth.across) > 4.99 and abs(float(below @ mouth.along)) < 1e-4
