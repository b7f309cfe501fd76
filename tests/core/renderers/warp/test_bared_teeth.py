import pytest
import torch

from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.warp.bared_teeth import teeth_on_lip

LIP, TEETH, DARK = ((150.0, 70, 70), (230.0, 225, 210), (40.0, 10, 10))


@pytest.fixture(scope="module")
def smile():
    points = 300 * canonical_face()[:, :2]
    points = points if len(points) == 478 else torch.cat([points, points[:10]])
    mouth = Aperture.of(points, MOUTH)
    return points, mouth


def sampler(mouth, height, hidden=()):
    """Lips with a row of teeth of a height above the inner upper lip, the mouth's dark below it."""

    def colours(places):
        u, v = mouth.axes_of(places)
        top, _ = mouth.edge_heights(u.flatten())
        above = top.reshape(u.shape) - v
        is_row = (above > -1) & (above < height) & ~((u > hidden[0]) & (u < hidden[1]) if hidden else u > 1e9)
        shown = torch.where(is_row[..., None], torch.tensor(TEETH), torch.tensor(LIP))
        return torch.where((above <= -1)[..., None], torch.tensor(DARK), shown)

    return colours


@pytest.mark.parametrize("share", [0.025, 0.045])
def test_a_row_of_teeth_above_the_landmarks_is_measured(smile, share):
    points, mouth = smile
    reach = teeth_on_lip(sampler(mouth, share * mouth.width), points, mouth)
    assert reach.shape == (9,)
    torch.testing.assert_close(reach, torch.full((9,), share * mouth.width), rtol=0, atol=0.006 * mouth.width)


def test_teeth_between_teeth_are_bridged_and_a_lip_has_none(smile):
    points, mouth = smile
    gap = (-0.08 * mouth.width, 0.08 * mouth.width)
    bridged = teeth_on_lip(sampler(mouth, 0.05 * mouth.width, gap), points, mouth)
    assert float(bridged.min()) > 0.044 * mouth.width
    assert not teeth_on_lip(sampler(mouth, -5.0), points, mouth).any()


def test_a_gleam_in_one_column_is_no_row(smile):
    points, mouth = smile
    hidden = (-0.4 * mouth.width, 9e9)
    assert not teeth_on_lip(sampler(mouth, 0.05 * mouth.width, hidden), points, mouth).any()


def test_what_is_light_up_to_the_skin_is_no_row(smile):
    points, mouth = smile
    assert not teeth_on_lip(sampler(mouth, 9e9), points, mouth).any()
