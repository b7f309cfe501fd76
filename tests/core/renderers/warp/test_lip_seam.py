import pytest
import torch

from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.warp.lip_seam import lower_lip_share


@pytest.fixture(scope="module")
def mouth():
    """A shut mouth whose lips meet in a straight line, 100 pixels wide."""
    points = canonical_face()[:, :2].clone()
    for ring in MOUTH:
        points[list(ring), 0] = torch.linspace(-50, 50, len(ring))
        points[list(ring), 1] = 0
    return Aperture.of(points, MOUTH)


def shares(mouth, u, *heights):
    return lower_lip_share(torch.full((len(heights),), u), torch.tensor(heights), mouth).tolist()


@pytest.mark.parametrize("u", [-45.0, 0.0, 45.0])
def test_lips_part_within_a_pixel(mouth, u):
    assert shares(mouth, u, -0.5, 0.0, 0.5) == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_the_seam_widens_from_before_the_corners(mouth):
    """Its ends lie on two straight lines that leave the lips at 0.46 of the mouth's width."""
    for u in (48.0, 50.0, 60.0, -60.0):
        half = (1 + 1.2 * (abs(u) - 46)) / 2
        assert shares(mouth, u, -half, 0.0, half) == pytest.approx([0, 0.5, 1], abs=1e-5)
        assert 0.0 < shares(mouth, u, -0.9 * half)[0] < 0.1


def test_a_nodes_list_and_a_picture_have_the_same_shares(mouth):
    u, v = torch.meshgrid(torch.linspace(-70, 70, 9), torch.linspace(-20, 20, 7), indexing="xy")
    whole = lower_lip_share(u, v, mouth)
    assert whole.shape == (7, 9)
    assert torch.equal(lower_lip_share(u.flatten(), v.flatten(), mouth), whole.flatten())
