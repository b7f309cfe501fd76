from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.fit import check_size, face_surroundings, fit_to, fitted
from portraittalk_core.face.mesh.landmarks import detect_faces, find_portrait, open_mesh
from portraittalk_core.types import LandmarkTrack, Portrait


@pytest.mark.parametrize(("width", "height"), [(512, 512), (256, 256), (384, 512), (640, 384), (512, 768)])
def test_landmarks_lie_on_the_face_of_the_cut_picture(astronaut, width, height):
    cut = fitted(astronaut, fit_to(astronaut, width, height))
    assert cut.picture.shape == (height, width, 3)
    found = find_portrait(cut.picture).landmarks.points_px[0, :, :2]
    size = (found.amax(0) - found.amin(0)).norm()
    assert (found - cut.landmarks.points_px[0, :, :2]).norm(dim=1).mean() < 0.02 * size


def test_the_same_size_is_untouched(astronaut):
    cut = fitted(astronaut, fit_to(astronaut, 512, 512))
    assert torch.equal(cut.picture, astronaut.picture)
    assert torch.equal(cut.landmarks.points, astronaut.landmarks.points)


def test_a_face_at_the_edge_stays_whole():
    """A face in the lower right of a wide picture: the box moves as far as the picture goes."""
    points = torch.rand(1, 478, 3) * torch.tensor([60.0, 60.0, 0.0]) + torch.tensor([330.0, 130.0, 0.0])
    track = LandmarkTrack.from_px(points, 400, 200, Fraction(25))
    portrait = Portrait(torch.zeros(200, 400, 3, dtype=torch.uint8), track)
    fit = fit_to(portrait, 128, 128)
    assert (fit.left, fit.top, fit.box_width, fit.box_height) == (200, 0, 200, 200)
    moved = fit.track(track)
    assert moved.points[..., :2].min() >= 0 and moved.points[..., :2].max() <= 1
    torch.testing.assert_close(moved.points_px[..., :2], (points[..., :2] - torch.tensor([200.0, 0.0])) * 0.64)


def test_surroundings_hold_the_meant_face_alone(astronaut):
    """Two people side by side: around the right one's face the left one is gone."""
    pair = torch.cat([astronaut.picture, astronaut.picture.flip(1)], 1)
    points = astronaut.landmarks.points_px.clone()
    points[..., 0] = 1023 - points[..., 0]
    cut = face_surroundings(Portrait(pair, LandmarkTrack.from_px(points, 1024, 512, Fraction(25))))
    with open_mesh() as mesh:
        faces = detect_faces(cut, mesh)
    size = (points[0, :, :2].amax(0) - points[0, :, :2].amin(0)).norm()
    assert len(faces) == 1
    found = faces[0, :, :2] * torch.tensor([cut.shape[1], cut.shape[0]])
    assert cut.shape[1] < 400
    assert ((found.amax(0) - found.amin(0)).norm() - size).abs() < 0.05 * size


@pytest.mark.parametrize(("width", "height"), [(500, 512), (512, 4), (512, 4096), (0, 512), (513, 512)])
def test_check_size_rejects(width, height):
    with pytest.raises(InputError, match="must be a multiple of 8|must lie between"):
        check_size(width, height)
