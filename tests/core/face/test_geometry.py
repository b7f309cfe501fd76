"""Distances and head pose against closed forms, scipy and OpenCV."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from portraittalk_core.face import geometry
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.types import LandmarkTrack

WIDTH, HEIGHT = 640, 480


def seen(angles_deg, size_px=100.0, middle=(300.0, 250.0)) -> torch.Tensor:
    """(T, 478, 3) pixels of the canonical face turned by scipy's rotation, through a pinhole 30 units away."""
    turns = Rotation.from_euler("xyz", np.radians(angles_deg) * [1, -1, 1]).as_matrix()  # y down: yaw is turned over
    face = np.einsum("tij,nj->tni", turns, canonical_face().numpy())
    depth = 30 / (30 + face[..., 2:])
    points = np.concatenate([face[..., :2] * depth * size_px + middle, face[..., 2:] * size_px], -1)
    return torch.from_numpy(points).float()


def track_of(points_px) -> LandmarkTrack:
    return LandmarkTrack.from_px(points_px, WIDTH, HEIGHT, Fraction(25))


def blank(num_frames=1) -> torch.Tensor:
    return torch.zeros(num_frames, 478, 3)


def test_interocular_is_distance_of_eye_middles():
    points = blank()
    points[0, list(topo.RIGHT_EYE_CORNERS)] = torch.tensor([[10.0, 20, 5], [30, 20, -5]])  # middle (20, 20)
    points[0, list(topo.LEFT_EYE_CORNERS)] = torch.tensor([[40.0, 50, 90], [60, 70, 90]])  # middle (50, 60)
    assert geometry.interocular_px(points).tolist() == [50]


def test_mouth_open_is_gap_over_interocular_in_pixels():
    points = seen([[0, 0, 0]])
    points[0, topo.INNER_LIP_TOP] = torch.tensor([300.0, 300, 0])
    points[0, topo.INNER_LIP_BOTTOM] = torch.tensor([300.0, 330, 77])
    eyes_px = float(geometry.interocular_px(points)[0])
    assert float(geometry.mouth_open(track_of(points))[0]) == pytest.approx(30 / eyes_px, rel=1e-5)


def test_mouth_width_and_jaw_drop_do_not_depend_on_size():
    small, large = (track_of(seen([[0, 0, 0]], size)) for size in (50.0, 100.0))
    for curve in (geometry.mouth_width, geometry.jaw_drop, geometry.eye_open):
        assert torch.allclose(curve(small), curve(large), atol=1e-4)
        assert float(curve(small)[0]) > 0.1


def test_eye_open_is_height_over_width():
    points = blank()
    for corners, top, bottom in ((topo.RIGHT_EYE_CORNERS, 159, 145), (topo.LEFT_EYE_CORNERS, 386, 374)):
        points[0, corners[0], 0], points[0, corners[1], 0] = 100.0, 140.0
        points[0, top, 1], points[0, bottom, 1] = 50.0, 60.0
    assert float(geometry.eye_open(track_of(points))[0]) == pytest.approx(0.25)


def test_face_box_holds_extremes():
    points = blank(2)
    points[:, 3] = torch.tensor([-5.0, 7, 1])
    points[:, 9] = torch.tensor([80.0, 90, -300])
    assert geometry.face_box_px(points).tolist() == [[-5, 0, 80, 90]] * 2


def test_rotation_matrix_matches_scipy():
    angles = np.random.default_rng(0).uniform(-80, 80, (20, 3))
    expected = Rotation.from_euler("xyz", np.radians(angles) * [1, -1, 1]).as_matrix()
    made = geometry.rotation_matrix(torch.from_numpy(angles))
    assert torch.allclose(made, torch.from_numpy(expected), atol=1e-12)


@pytest.mark.parametrize(
    ("angles", "axis"), [([12, 0, 0], 1), ([0, 12, 0], 0)], ids=["pitch looks down", "yaw turns to the viewer's right"]
)
def test_head_pose_sign_moves_nose(angles, axis):
    """A positive angle moves the nose's tip down, or to the viewer's right, against the eyes."""
    points = seen([[0, 0, 0], angles])
    nose = points[:, topo.NOSE_TIP, axis] - points[:, list(topo.RIGHT_EYE_CORNERS + topo.LEFT_EYE_CORNERS), axis].mean(
        1
    )
    assert nose[1] > nose[0] + 5
    pose = geometry.head_pose(track_of(points)).angles_deg
    assert torch.allclose(pose[1], torch.tensor(angles, dtype=torch.float32), atol=0.05)


def test_head_pose_roll_is_clockwise():
    points = seen([[0, 0, 15]])
    assert points[0, 263, 1] > points[0, 33, 1] + 10  # the eye on the viewer's right is lower
    assert float(geometry.head_pose(track_of(points)).angles_deg[0, 2]) == pytest.approx(15, abs=0.05)


def test_head_pose_recovers_known_poses():
    angles = np.random.default_rng(1).uniform([-25, -40, -30], [25, 40, 30], (200, 3))
    pose = geometry.head_pose(track_of(seen(angles, size_px=80.0, middle=(200.0, 260.0))))
    assert np.abs(pose.angles_deg.numpy() - angles).max() < 0.05
    assert torch.allclose(pose.scale, torch.full((200,), 80.0), rtol=2e-3)
    expected = torch.tensor([(200 - WIDTH / 2) / 80, (260 - HEIGHT / 2) / 80])
    assert torch.allclose(pose.translation[:, :2], expected.expand(200, 2), atol=0.01)


def test_head_pose_does_not_depend_on_place():
    left, right = (geometry.head_pose(track_of(seen([[5, 20, 3]], middle=m))) for m in ((120.0, 120.0), (560.0, 400.0)))
    assert torch.allclose(left.angles_deg, right.angles_deg, atol=1e-2)


def test_head_pose_ignores_speaking_mouth():
    points = seen([[4, 8, 2]])
    still = geometry.head_pose(track_of(points)).angles_deg
    points[:, list(topo.LIPS)] += torch.tensor([0.0, 25, 0])
    points[:, topo.CHIN] += torch.tensor([0.0, 40, 0])
    assert torch.equal(geometry.head_pose(track_of(points)).angles_deg, still)


def test_head_pose_matches_opencv():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(2)
    angles = rng.uniform(-20, 20, (10, 3))
    points = seen(angles, size_px=90.0)
    points[..., :2] += torch.from_numpy(rng.normal(0, 0.5, (10, 478, 2))).float()  # no exact solution
    pose = geometry.head_pose(track_of(points)).angles_deg.numpy()
    rigid = list(topo.RIGID)
    for frame in range(10):
        image = points[frame, rigid, :2].numpy().astype(np.float64)
        eyes = points[frame, list(topo.RIGHT_EYE_CORNERS + topo.LEFT_EYE_CORNERS), :2].double().mean(0)
        camera = np.array([[90 * 30, 0, eyes[0]], [0, 90 * 30, eyes[1]], [0, 0, 1]])
        model = canonical_face()[rigid].numpy().astype(np.float64)
        _, turn, _ = cv2.solvePnP(model, image, camera, None, flags=cv2.SOLVEPNP_ITERATIVE)
        expected = Rotation.from_rotvec(turn[:, 0]).as_euler("xyz", degrees=True) * [1, -1, 1]
        assert np.abs(pose[frame] - expected).max() < 0.2, (pose[frame], expected)


def test_head_pose_survives_collapsed_points():
    pose = geometry.head_pose(track_of(torch.full((2, 478, 3), 50.0)))
    assert all(torch.isfinite(part).all() for part in (pose.angles_deg, pose.translation, pose.scale))


def test_align_recovers_similarity():
    rng = np.random.default_rng(3)
    moving = rng.normal(size=(4, 30, 3))
    turns = Rotation.random(4, random_state=3).as_matrix()
    fixed = 2.5 * np.einsum("tij,tnj->tni", turns, moving) + rng.normal(size=(4, 1, 3))
    scale, rotation, shift = geometry.align(torch.from_numpy(moving), torch.from_numpy(fixed))
    assert torch.allclose(scale, torch.full((4,), 2.5, dtype=torch.float64))
    assert torch.allclose(rotation, torch.from_numpy(turns))
    assert torch.allclose(shift, torch.from_numpy(fixed - 2.5 * np.einsum("tij,tnj->tni", turns, moving))[:, 0])


def test_align_never_mirrors():
    moving = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, rotation, _ = geometry.align(moving, moving * torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    assert float(torch.linalg.det(rotation[0])) == pytest.approx(1)
