"""The stick figure lies where the landmarks are, and nowhere else."""

from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.draw import BLUE, draw_face, draw_landmarks
from portraittalk_core.types import LandmarkTrack


def figure(middle=(100.0, 90.0), size_px=60.0) -> torch.Tensor:
    return canonical_face() * size_px + torch.tensor([*middle, 0.0])


def track(num_frames=3, width=200, height=240) -> LandmarkTrack:
    points = torch.stack([figure((100.0 + 5 * i, 90.0)) for i in range(num_frames)])
    return LandmarkTrack.from_px(points, width, height, Fraction(25))


def black(height=240, width=200) -> torch.Tensor:
    return torch.zeros(height, width, 3, dtype=torch.uint8)


def test_draw_face_covers_contour_points():
    points = figure()
    picture = draw_face(black(), points)
    for chain in (topo.FACE_OVAL, topo.INNER_UPPER_LIP, topo.OUTER_LOWER_LIP, topo.LEFT_UPPER_LID, topo.RIGHT_BROW):
        for x, y in points[list(chain), :2].long().tolist():
            assert picture[y - 1 : y + 2, x - 1 : x + 2].max() > 60, (x, y)


def test_draw_face_leaves_the_rest_alone():
    points = figure()
    picture = draw_face(torch.full((240, 200, 3), 77, dtype=torch.uint8), points)
    x0, y0 = (points[:, :2].amin(0) - 3).long().tolist()
    x1, y1 = (points[:, :2].amax(0) + 4).long().tolist()
    outside = torch.ones(240, 200, dtype=torch.bool)
    outside[y0:y1, x0:x1] = False
    assert (picture[outside] == 77).all()
    cheek = points[50, :2].long().tolist()  # inside the face, on no contour
    assert (picture[cheek[1], cheek[0]] == 77).all()


def test_draw_face_iris_is_centred_to_a_fifth_of_a_pixel():
    points = torch.zeros(478, 3) - 1000
    centre = torch.tensor([50.3, 60.7])
    rim = torch.tensor([[12.0, 0], [0, -12], [-12, 0], [0, 12]])
    points[list(topo.RIGHT_IRIS), :2] = torch.cat([centre[None], centre + rim])
    blue = draw_face(black(), points)[..., 2].double() / BLUE[2]
    rows, columns = torch.meshgrid(torch.arange(240) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    assert float((blue * columns).sum() / blue.sum()) == pytest.approx(50.3, abs=0.18)
    assert float((blue * rows).sum() / blue.sum()) == pytest.approx(60.7, abs=0.18)


def test_draw_face_lines_are_smooth_and_keep_their_colour():
    picture = draw_face(torch.full((240, 200, 3), 255, dtype=torch.uint8), figure())
    grey = picture.float().mean(-1)
    assert ((grey > 205) & (grey < 250)).sum() > 200  # partly covered pixels
    assert picture.amin() > 50  # no dark fringe where a light line fades into white


def test_draw_face_outside_the_picture_draws_nothing():
    assert (draw_face(black(), figure((900.0, 900.0))) == 0).all()


def test_draw_landmarks_yields_one_picture_a_frame():
    drawn = list(draw_landmarks(track(), size=120))
    assert [tuple(p.shape) for p in drawn] == [(120, 100, 3)] * 3
    assert not torch.equal(drawn[0], drawn[1])


def test_draw_landmarks_index_matches_that_frame():
    drawn = list(draw_landmarks(track()))
    (only,) = draw_landmarks(track(), index=2)
    assert torch.equal(only, drawn[2])


def test_draw_landmarks_keeps_background_between_frames():
    background = torch.full((240, 200, 3), 30, dtype=torch.uint8)
    drawn = list(draw_landmarks(track(), background=background))
    assert (background == 30).all()
    left = figure()[234, :2].long().tolist()  # drawn in the first frame, free in the last
    assert drawn[0][left[1], left[0]].max() > 100
    assert (drawn[2][left[1], left[0]] == 30).all()


def test_draw_landmarks_takes_one_background_a_frame():
    backgrounds = (torch.full((480, 400, 3), value, dtype=torch.uint8) for value in (10, 20, 30))
    assert [int(p[0, 0, 0]) for p in draw_landmarks(track(), background=backgrounds)] == [10, 20, 30]


@pytest.mark.parametrize(("options", "said"), [({"index": 3}, "frames 0 to 2"), ({"size": 8}, "16")])
def test_draw_landmarks_rejects_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        draw_landmarks(track(), **options)
