import math

import cv2
import numpy as np
import pytest
import torch

from portraittalk_core.errors import ShapeError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.lip_points import (
    BROWS,
    CONTENT_POINTS,
    EDGES,
    EYES,
    INNER_LIPS,
    JAW_POINTS,
    LIP_POINTS,
    MOUTH_EDGES,
    OUTER_LIPS,
    POSE_POINTS,
    PROFILE,
)
from portraittalk_core.face.sketch import JAW, MOUTH, POSE, draw_sketch


def test_points_are_the_parts_they_are_called():
    assert (len(PROFILE), len(POSE_POINTS), len(JAW_POINTS), len(CONTENT_POINTS)) == (8, 74, 17, 57)
    assert len(set(LIP_POINTS)) == len(LIP_POINTS) == 131
    assert LIP_POINTS[POSE] == POSE_POINTS
    assert LIP_POINTS[JAW] == JAW_POINTS
    assert LIP_POINTS[MOUTH] == OUTER_LIPS + INNER_LIPS
    assert set(OUTER_LIPS) == {*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP}
    assert set(INNER_LIPS) == {*topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP}
    assert set(EYES) == set(topo.EYELIDS)
    assert set(BROWS) == {*topo.RIGHT_BROW, *topo.LEFT_BROW}
    assert JAW_POINTS[8] == topo.CHIN
    assert {*JAW_POINTS, *PROFILE} <= set(topo.FACE_OVAL)


def test_lips_and_jaw_run_around_the_face_in_order():
    """On the canonical face, which is symmetric: the jaw right to left, lips over the top and back underneath."""
    face = canonical_face()
    mirrored = face[list(JAW_POINTS)].flip(0) * torch.tensor([-1.0, 1, 1])
    assert torch.allclose(face[list(JAW_POINTS)], mirrored, atol=0.02)
    for lips in (OUTER_LIPS, INNER_LIPS):
        x, y = face[list(lips), :2].T
        assert (x[1:11] > x[:10]).all()
        assert (x[11:] < x[10:19]).all()
        assert (y[1:10] <= y[11:].flip(0)).all()


def test_edges_are_those_of_the_public_code():
    """Counts by part as the paper's public code has them; each edge once, none over the forehead."""
    edges = {frozenset(edge) for edge in EDGES}
    assert len(edges) == len(EDGES) == 125

    def within(points) -> int:
        return sum(edge <= set(points) for edge in edges)

    oval = {*PROFILE, *JAW_POINTS}
    assert (within(OUTER_LIPS), within(INNER_LIPS), within(EYES[:16]), within(EYES[16:])) == (20, 20, 16, 16)
    assert (within(BROWS[:10]), within(BROWS[10:]), within(oval)) == (8, 8, 24)
    assert {frozenset(edge) for edge in MOUTH_EDGES} <= edges
    assert frozenset((389, 162)) not in edges
    for one, other in ((4, 275), (344, 278), (115, 48), (168, 6), (5, 4), (127, 162), (70, 63), (46, 53), (107, 66)):
        assert frozenset((one, other)) in edges


def by_opencv(points: np.ndarray, size: int, crop: tuple[int, int]) -> np.ndarray:
    """The public code's drawing with its own library: a canvas of the crop's shape, lines, a resize."""
    width, height = (int(side * size / min(crop)) for side in crop)
    canvas = np.zeros((height, width, 3))
    places = {}
    for index, (x, y) in zip(LIP_POINTS, points.tolist(), strict=True):
        if 0 <= x <= 1 and 0 <= y <= 1:
            places[index] = (min(math.floor(x * width), width - 1), min(math.floor(y * height), height - 1))
    for one, other in EDGES:
        if one in places and other in places:
            cv2.line(canvas, places[one], places[other], (224, 224, 224), 1)
    return cv2.resize(canvas, (size, size)).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("crop", [(128, 128), (200, 261), (300, 211), (90, 89)])
def test_sketch_matches_opencv_line_for_line(crop):
    """Scattered points give lines of every slope, and points outside, whose lines are not drawn."""
    points = 1.1 * torch.rand(12, 131, 2, generator=torch.Generator().manual_seed(3)) - 0.05
    points[0, :3] = torch.tensor([[0.0, 0], [1, 1], [1, 0]])
    drawn = draw_sketch(points, 128, torch.tensor([crop]).expand(12, 2)).numpy()
    expected = np.stack([by_opencv(each, 128, crop) for each in points.numpy()])
    assert drawn.shape == (12, 3, 128, 128)
    assert 0.1 < (expected > 0).mean() < 0.9
    assert np.abs(drawn - expected).max() < 1e-6


def test_every_slope_matches_opencv():
    """One line each to all pixels around, whose ties are where drawings differ."""
    one, other = EDGES[0]
    size, middle = 23, 11
    targets = torch.tensor([[x, y] for x in range(size) for y in range(size)])
    points = torch.full((len(targets), 131, 2), -1.0)
    points[:, LIP_POINTS.index(one)] = (middle + 0.5) / size
    points[:, LIP_POINTS.index(other)] = (targets + 0.5) / size
    drawn = draw_sketch(points, size)[:, 0].numpy() > 0
    for picture, target in zip(drawn, targets.tolist(), strict=True):
        expected = np.zeros((size, size))
        cv2.line(expected, (middle, middle), tuple(target), 1, 1)
        assert np.array_equal(picture, expected > 0), target


def test_crops_of_different_shapes_are_drawn_together_as_alone():
    points = torch.rand(3, 131, 2, generator=torch.Generator().manual_seed(4))
    crops = torch.tensor([[100, 120], [130, 100], [77, 77]])
    together = draw_sketch(points, 64, crops)
    alone = [draw_sketch(points[t : t + 1], 64, crops[t : t + 1]) for t in range(3)]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together[:1], draw_sketch(points[:1], 64))


def test_points_that_are_none_draw_nothing():
    assert not draw_sketch(torch.full((1, 131, 2), math.nan), 32).any()
    with pytest.raises(ShapeError, match="131"):
        draw_sketch(torch.zeros(1, 130, 2), 32)
