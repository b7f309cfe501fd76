import math

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.topology import CHIN, LIPS, NOSE_TIP
from portraittalk_core.renderers.vexpress.head_keypoints import (
    EIGHT,
    EIGHT_COLOURS,
    draw_heads,
    draw_three,
    three_points,
)
from portraittalk_core.types import LandmarkTrack, as_fps

POINTS = torch.tensor([[[200.0, 200.0], [300.0, 200.0], [250.0, 280.0]]])


def by_opencv(points, width, height):
    cv2 = pytest.importorskip("cv2")
    canvas = np.zeros((height, width, 3), np.uint8)
    for eye, colour in ((points[0], (153, 0, 0)), (points[1], (0, 153, 0))):
        dx, dy = eye - points[2]
        middle = tuple(int(v) for v in (eye + points[2]) / 2)
        angle = int(math.degrees(math.atan2(dy, dx)))
        corners = cv2.ellipse2Poly(middle, (int(math.hypot(dx, dy) / 2), 4), angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, corners, colour)
    for point, colour in zip(points, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        cv2.circle(canvas, (int(point[0]), int(point[1])), 4, colour, -1)
    return canvas


def test_three_matches_the_public_codes_figures():
    drawing = next(draw_three(POINTS, 512, 512))
    assert drawing.shape == (512, 512, 3) and drawing.dtype == torch.uint8
    assert int(drawing.long().sum()) == 241281
    assert int(drawing.any(2).sum()) == 1479
    assert drawing[240, 225].tolist() == [153, 0, 0]


@pytest.mark.slow
def test_three_matches_opencv_to_the_pixel():
    draw = np.random.default_rng(0)
    for number in range(80):
        points = draw.uniform(10, (370, 246), (3, 2))
        if number % 2:
            points = np.clip(points[0] + draw.normal(0, 25, (3, 2)), 10, (370, 246))
        mine = next(draw_three(torch.from_numpy(points)[None], 384, 256)).numpy()
        assert np.array_equal(mine, by_opencv(points, 384, 256)), points


def test_three_is_cut_at_the_border():
    points = torch.tensor([[[-20.0, -5.0], [70.0, 30.0], [1e9, 40.0]]])
    drawing = next(draw_three(points, 64, 48))
    assert drawing.shape == (48, 64, 3)
    assert not next(draw_three(points + torch.tensor([0.0, 900.0]), 64, 48)).any()


def test_points_are_the_asked_landmarks():
    points = torch.arange(478 * 3, dtype=torch.float32).reshape(1, 478, 3) / 2000
    track = LandmarkTrack(points, torch.ones(1, dtype=torch.bool), as_fps(25), 200, 100)
    chosen = points[0, [468, 473, 1], :2] * torch.tensor([200.0, 100.0])
    torch.testing.assert_close(three_points(track)[0], chosen)


def test_drawing_rejects_bad_points():
    with pytest.raises(ShapeError, match="key points"):
        next(draw_three(torch.zeros(1, 8, 2), 64, 64))
    with pytest.raises(InputError, match="NaN"):
        next(draw_three(torch.full((1, 3, 2), torch.nan), 64, 64))
    with pytest.raises(InputError, match="width"):
        next(draw_three(POINTS, 0, 64))


def test_eight_points_are_discs_of_their_own_colours_and_hide_the_mouth():
    points = torch.tensor([[40.0 + 60 * k, 100.0] for k in range(8)])
    drawing = next(draw_heads(points[None], 512, 512))
    colours, counts = np.unique(drawing.reshape(-1, 3).numpy(), axis=0, return_counts=True)
    assert len(colours) == 9 and sorted(counts)[:8] == [49] * 8  # whole points within a circle of radius 4
    for (x, y), colour in zip(points.int().tolist(), EIGHT_COLOURS.tolist(), strict=True):
        assert drawing[y, x].tolist() == colour
    assert int((next(draw_heads(points[None] / 8, 64, 64)) > 0).any(2).sum()) == 8 * 5  # radius 1
    assert not set(EIGHT) & {*LIPS, CHIN, NOSE_TIP}
    far = next(draw_heads(points[None] - 9000, 512, 512))
    assert not far.any()
