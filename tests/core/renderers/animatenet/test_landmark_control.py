"""The hint pictures: pixel parity with OpenCV's lines and MediaPipe's drawing, and closed forms."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.landmark_control import STYLES, draw_condition
from portraittalk_core.renderers.animatenet.line_drawing import paint_lines
from portraittalk_core.types import LandmarkTrack

BLACK = (0, 0, 0)
RIGHT_IRIS, LEFT_IRIS = 468, 473


def make_track(points: np.ndarray, width: int = 512, height: int = 512) -> LandmarkTrack:
    """A track of normalised (T, 478, 2) points."""
    full = torch.zeros(len(points), 478, 3)
    full[..., :2] = torch.from_numpy(points)
    return LandmarkTrack(full, torch.ones(len(points), dtype=torch.bool), Fraction(25), width, height)


def at_points(places: dict[int, tuple[float, float]], elsewhere: tuple[float, float] = (-0.5, -0.5)) -> LandmarkTrack:
    """One frame with all points outside the picture but for some."""
    points = np.full((1, 478, 2), elsewhere)
    for index, place in places.items():
        points[0, index] = place
    return make_track(points)


def face_points(rng: np.random.Generator) -> np.ndarray:
    """(478, 2) points of a face-sized scatter that may hang over the borders."""
    centre, spread = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.35, 2)
    return (centre + spread * rng.standard_normal((478, 2))).astype(np.float32)


# MediaPipe as the oracle ----------------------------------------------------------------------------------------------


def mediapipe_drawing(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """What MediaPipe's own drawing makes of normalised points (478, 2), in the ControlNet's colours."""
    solutions = pytest.importorskip("mediapipe.python.solutions", reason="this MediaPipe has no drawing")
    from mediapipe.framework.formats import landmark_pb2
    from mediapipe.python.solutions import drawing_utils, face_mesh_connections

    assert solutions
    parts = {
        "FACE_OVAL": (10, 200, 10),
        "LEFT_EYE": (10, 200, 180),
        "LEFT_EYEBROW": (10, 220, 180),
        "RIGHT_EYE": (180, 200, 10),
        "RIGHT_EYEBROW": (180, 220, 10),
        "LIPS": (10, 180, 10),
    }
    marks = [landmark_pb2.NormalizedLandmark(x=x, y=y) for x, y in points.tolist()]
    canvas = np.zeros((height, width, 3), np.uint8)
    for name, colour in parts.items():
        drawing_utils.draw_landmarks(
            canvas,
            landmark_pb2.NormalizedLandmarkList(landmark=marks),
            connections=getattr(face_mesh_connections, f"FACEMESH_{name}"),
            landmark_drawing_spec=None,
            connection_drawing_spec=drawing_utils.DrawingSpec(color=colour, thickness=2),
        )
    for index, colour in ((RIGHT_IRIS, (250, 200, 10)), (LEFT_IRIS, (10, 200, 250))):
        x, y = points[index].tolist()
        if 0 <= x < 1 and 0 <= y < 1:
            column, row = int(width * x), int(height * y)
            canvas[row - 2 : row + 2, column - 2 : column + 2] = colour
    return canvas


@pytest.mark.parametrize("size", [(512, 512), (256, 256), (768, 768), (512, 768), (640, 360)])
def test_draw_condition_matches_mediapipe(size):
    rng = np.random.default_rng(sum(size))
    outside = 0
    for _ in range(50 if size == (512, 512) else 10):
        points = face_points(rng)
        outside += ((points < 0) | (points > 1)).any()
        ours = draw_condition(make_track(points[None]), 0, *size).numpy()
        assert ours.shape == (size[1], size[0], 3)
        assert (ours != mediapipe_drawing(points, *size)).sum() == 0
        assert ours.any()
    assert outside


def test_draw_condition_matches_mediapipe_at_the_border():
    rng = np.random.default_rng(3)
    for _ in range(5):
        points = rng.choice(np.float32([0, 1e-3, 0.5, 0.999, 1, 1.0001, -1e-6]), (478, 2))
        ours = draw_condition(make_track(points[None]), 0, 256, 256).numpy()
        assert (ours != mediapipe_drawing(points, 256, 256)).sum() == 0


@pytest.mark.parametrize("size", [(9, 7), (40, 64), (300, 200)])
def test_paint_lines_matches_opencv(size):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    ends = rng.integers([0, 0], size, (300, 2, 2))
    for first, last in ends.tolist():
        expected = cv2.line(np.zeros((*size[::-1], 3), np.uint8), first, last, (9, 8, 7), 2)
        ours = np.zeros_like(expected)
        paint_lines(ours, np.array([first]), np.array([last]), np.array([[9, 8, 7]], np.uint8))
        assert (ours != expected).sum() == 0


# Closed forms ---------------------------------------------------------------------------------------------------------


def test_paint_lines_later_lines_cover_earlier_ones():
    canvas = np.zeros((40, 40, 3), np.uint8)
    starts, ends = np.array([[5, 20], [20, 5]]), np.array([[35, 20], [20, 35]])
    paint_lines(canvas, starts, ends, np.array([[1, 1, 1], [2, 2, 2]], np.uint8))
    assert (canvas[19:22, 5:19] == 1).all()  # three pixels thick
    assert (canvas[5:36, 19:22] == 2).all()
    assert not canvas[18, 5:18].any() and not canvas[22, 5:18].any()


def test_paint_lines_of_no_length_is_a_plus():
    canvas = np.zeros((5, 5, 3), np.uint8)
    paint_lines(canvas, np.array([[2, 2]]), np.array([[2, 2]]), np.array([[1, 1, 1]], np.uint8))
    expected = np.zeros((5, 5))
    expected[2, 1:4] = expected[1:4, 2] = 1
    assert (canvas[..., 0] == expected).all()


def test_paint_lines_of_nothing_leaves_the_picture():
    none = np.zeros((0, 2), int)
    assert not paint_lines(np.zeros((4, 4, 3), np.uint8), none, none, np.zeros((0, 3), np.uint8)).any()


def test_draw_condition_iris_is_a_square_of_four():
    picture = draw_condition(at_points({RIGHT_IRIS: (100.9 / 512, 200.2 / 512)}), 0, 512, 512)
    assert picture.any(2).nonzero().amin(0).tolist() == [198, 98]
    assert picture.any(2).nonzero().amax(0).tolist() == [201, 101]
    assert picture.any(2).sum() == 16
    assert picture[199, 99].tolist() == [250, 200, 10]


@pytest.mark.parametrize("place", [(1.0, 0.5), (0.5, 1.0), (-0.01, 0.5), (1 / 512, 0.5)])
def test_draw_condition_leaves_out_an_iris_at_the_border(place):
    assert not draw_condition(at_points({LEFT_IRIS: place}), 0, 512, 512).any()


def test_draw_condition_drops_lines_that_leave_the_picture():
    whole = at_points({70: (0.2, 0.2), 63: (0.4, 0.2), 105: (0.6, 0.2)})
    cut = at_points({70: (0.2, 0.2), 63: (0.4, 0.2), 105: (1.001, 0.2)})
    drawn, dropped = (draw_condition(track, 0, 512, 512) for track in (whole, cut))
    assert drawn[102, 110:300].any(1).all()
    assert torch.equal(dropped[:, :204], drawn[:, :204])
    assert not dropped[:, 206:].any()


@pytest.mark.parametrize(("share", "seen"), [(0.13, True), (0.12, False)])  # of 512 pixels: 66.6 and 61.4
def test_draw_condition_skips_small_faces(share, seen):
    points = 0.3 + np.random.default_rng(0).uniform(0, 1, (1, 478, 2)) * [0.5, share]
    points[0, :2, 1] = 0.3, 0.3 + share
    assert draw_condition(make_track(points), 0, 512, 512).any() == seen


def test_draw_condition_fills_pictures_of_another_shape():
    points = face_points(np.random.default_rng(1))[None]
    small, large = make_track(points, 64, 48), make_track(points, 4000, 3000)
    assert torch.equal(draw_condition(small, 0, 320, 512), draw_condition(large, 0, 320, 512))


def test_draw_condition_draws_the_frame_of_its_number():
    rng = np.random.default_rng(2)
    points = np.stack([face_points(rng) for _ in range(3)])
    for style in STYLES:
        picture = draw_condition(make_track(points), 2, 256, 320, style)
        assert picture.shape == (320, 256, 3) and picture.dtype == torch.uint8
        assert torch.equal(picture, draw_condition(make_track(points[2:]), 0, 256, 320, style))


# The other styles -----------------------------------------------------------------------------------------------------


def test_head_kps_are_eight_discs_of_their_own_colours():
    places = {index: (0.1 + 0.1 * n, 0.5) for n, index in enumerate((234, 454, 468, 473, 168, 6, 197, 195))}
    picture = draw_condition(at_points(places), 0, 512, 512, "head_kps")
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()} - {BLACK}
    assert len(colours) == 8
    for colour in colours:
        assert (picture == torch.tensor(colour)).all(2).sum() == 49  # whole-number points within 4 of one
    assert (draw_condition(at_points(places), 0, 64, 64, "head_kps") > 0).any(2).sum() == 8 * 5  # radius 1


def test_head_kps_do_not_see_the_mouth():
    points = face_points(np.random.default_rng(4))[None]
    moved = points.copy()
    moved[:, [13, 14, 17, 0, 61, 291, 152, 78, 308]] += 0.1
    first, last = (draw_condition(make_track(p), 0, 256, 256, "head_kps") for p in (points, moved))
    assert torch.equal(first, last)


def test_landmarks_are_white_dots():
    grid = np.stack(np.meshgrid(np.arange(24), np.arange(20)), -1).reshape(-1, 2)[:478] * 10 + 20.5
    picture = draw_condition(make_track(grid[None] / 256), 0, 256, 256, "landmarks")
    assert set(picture.unique().tolist()) == {0, 255}
    assert picture.any(2).sum() == 478  # single pixels at 256
    assert draw_condition(make_track(grid[None] / 256), 0, 512, 512, "landmarks").any(2).sum() == 478 * 5


def test_far_points_are_harmless():
    track = make_track(np.full((1, 478, 2), 999.0, np.float32))
    for style in STYLES:
        assert not draw_condition(track, 0, 64, 64, style).any()


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "openpose"}, "mediapipe_face, head_kps, landmarks.*openpose"),
        ({"width": 0}, "width.*between 16 and 4096.*0"),
        ({"height": 5000}, "height.*5000"),
        ({"index": 1}, "frame 1.*0 to 0"),
        ({"index": -1}, "frame -1"),
    ],
)
def test_draw_condition_rejects(change, message):
    asked = {"index": 0, "width": 64, "height": 64, "style": "landmarks"} | change
    with pytest.raises(InputError, match=message):
        draw_condition(at_points({}), **asked)
