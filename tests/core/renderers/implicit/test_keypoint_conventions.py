"""Angles, and where keypoints are put by them: the conventions of both families."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import head_pose
from portraittalk_core.renderers.implicit.contract import Keypoints
from portraittalk_core.renderers.implicit.facevid2vid.model import FaceVid2Vid
from portraittalk_core.renderers.implicit.head_angles import axis_rotations, degrees_of_bins
from portraittalk_core.renderers.implicit.liveportrait.model import LivePortrait
from portraittalk_core.renderers.implicit.random_weights import random_model
from portraittalk_core.types import LandmarkTrack, as_fps

LAYOUTS = ("liveportrait-21", "face-vid2vid-15")
ANGLES = torch.tensor([[12.0, -25.0, 8.0], [-7.0, 40.0, -15.0]])


@pytest.fixture(scope="module")
def models():
    return {layout: random_model(layout) for layout in LAYOUTS}


def keypoints(angles=ANGLES, **changes) -> Keypoints:
    draw = torch.Generator().manual_seed(1)
    count = len(angles)
    parts = {
        "canonical": torch.randn(count, 7, 3, generator=draw),
        "rotation_deg": angles,
        "translation": torch.zeros(count, 3),
        "scale": torch.ones(count),
        "expression": torch.zeros(count, 7, 3),
    }
    return Keypoints(**parts | changes)


def test_bins_are_three_degrees_from_each_familys_first():
    even = torch.zeros(1, 66)
    assert float(degrees_of_bins(even, -99.0)) == pytest.approx(-1.5, abs=1e-4)  # face-vid2vid
    assert float(degrees_of_bins(even, -97.5)) == pytest.approx(0, abs=1e-4)  # LivePortrait
    one = torch.full((2, 66), -1000.0)
    one[0, 0] = one[1, 65] = 0
    assert degrees_of_bins(one, -97.5).tolist() == pytest.approx([-97.5, 97.5])


@pytest.mark.parametrize(("layout", "expected"), [("liveportrait-21", 0.0), ("face-vid2vid-15", -1.5)])
def test_heads_without_opinion_give_each_familys_middle(layout, expected):
    model, _ = random_model(layout)
    heads = model.motion_extractor.detector if layout == LAYOUTS[0] else model.he_estimator
    for name in ("fc_pitch", "fc_yaw", "fc_roll"):
        getattr(heads, name).weight.zero_()
    angles = model.keypoints(torch.rand(2, 3, 64, 64)).rotation_deg
    torch.testing.assert_close(angles, torch.full((2, 3), expected), rtol=0, atol=1e-4)


def test_face_vid2vid_has_the_heads_of_yaw_and_roll_exchanged():
    model, _ = random_model("face-vid2vid-15")
    for name in ("fc_pitch", "fc_yaw", "fc_roll"):
        getattr(model.he_estimator, name).weight.zero_()
    model.he_estimator.fc_roll.bias[65] = 100  # 96 degrees
    angles = model.keypoints(torch.rand(1, 3, 64, 64)).rotation_deg[0]
    assert angles.tolist() == pytest.approx([-1.5, 96, -1.5], abs=1e-3)


def test_live_portraits_turns_are_pitch_first():
    matrices = Rotation.from_euler("xyz", ANGLES.numpy(), degrees=True).as_matrix()  # about fixed axes: z · y · x
    given = keypoints()
    expected = np.einsum("bij,bkj->bki", matrices, given.canonical.numpy())
    np.testing.assert_allclose(LivePortrait.place(None, given), expected, atol=1e-5)


def test_face_vid2vids_turns_are_roll_first_with_its_own_pi():
    turned = ANGLES.numpy()[:, ::-1] / 180 * 3.14
    matrices = Rotation.from_euler("zyx", turned).as_matrix()  # about fixed axes: x · y · z
    given = keypoints()
    expected = np.einsum("bij,bkj->bki", matrices, given.canonical.numpy())
    np.testing.assert_allclose(FaceVid2Vid.place(None, given), expected, atol=1e-5)
    _, about_y, _ = axis_rotations(torch.tensor([[0.0, 90.0, 0.0]]), 3.14)
    assert float(about_y[0, 0, 0]) == pytest.approx(0.000796, abs=1e-6)


def test_the_rest_of_the_motion_is_added_in_each_familys_order():
    shift, scale = torch.tensor([[0.1, -0.2, 0.3]]), torch.tensor([1.5])
    expression = torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(2))
    still, given = (
        keypoints(ANGLES[:1], **changes)
        for changes in ({}, {"translation": shift, "scale": scale, "expression": expression})
    )
    live, old = LivePortrait.place(None, still), FaceVid2Vid.place(None, still)  # canonical, turned
    flat = shift * torch.tensor([1, 1, 0])
    torch.testing.assert_close(LivePortrait.place(None, given), 1.5 * (live + expression) + flat[:, None])
    unscaled = keypoints(ANGLES[:1], translation=shift, expression=expression)
    torch.testing.assert_close(FaceVid2Vid.place(None, unscaled), old + expression + shift[:, None])


@pytest.mark.parametrize("family", [LivePortrait, FaceVid2Vid])
def test_angles_turn_the_head_as_our_own_measure_says_but_for_yaw(family):
    """Down, to the viewer's left, clockwise: with z away from the viewer, only yaw's sign is not that of HeadPose."""
    face = canonical_face()[None].float()
    for axis, sign in enumerate((1, -1, 1)):
        angles = torch.zeros(2, 3)
        angles[1, axis] = 15
        given = keypoints(angles, canonical=face.expand(2, -1, -1), expression=torch.zeros(2, len(face[0]), 3))
        points = family.place(None, given) * torch.tensor([50.0, 50.0, 50.0]) + torch.tensor([256.0, 256.0, 0.0])
        track = LandmarkTrack(points, torch.ones(2, dtype=torch.bool), as_fps(25), 512, 512)
        measured = head_pose(track).angles_deg
        change = measured[1] - measured[0]
        assert float(change[axis]) == pytest.approx(15 * sign, abs=1)
        assert all(abs(float(change[other])) < 1 for other in range(3) if other != axis)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keypoints_of_a_picture_have_the_contracts_shapes(layout, models):
    model, _ = models[layout]
    count = 21 if layout == LAYOUTS[0] else 15
    found = model.keypoints(torch.rand(2, 3, 64, 64))
    shapes = [
        tuple(getattr(found, n).shape) for n in ("canonical", "rotation_deg", "translation", "scale", "expression")
    ]
    assert shapes == [(2, count, 3), (2, 3), (2, 3), (2,), (2, count, 3)]
    assert model.place(found).shape == (2, count, 3) and model.layout == layout


def test_stitching_moves_keypoints_and_shifts_the_face_sideways_and_down_only(models):
    _, small = models["liveportrait-21"]
    network = small.retarget_shoulder.mlp
    points = torch.randn(2, 21, 3, generator=torch.Generator().manual_seed(3))
    given = torch.cat([points[:1].expand(2, -1, -1).flatten(1), points.flatten(1)], 1)
    moves = network(given)
    expected = points + moves[:, :63].reshape(2, 21, 3)
    expected[..., :2] += moves[:, None, 63:]
    torch.testing.assert_close(small.stitch(points[:1], points), expected)


def test_lips_and_eyes_get_ratios_behind_the_keypoints(models):
    _, small = models["liveportrait-21"]
    points, now, wanted = torch.randn(2, 21, 3), torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.4])
    given = torch.cat([points.reshape(2, 63), now[:, None], wanted[:, None]], 1)
    torch.testing.assert_close(small.lips(points, now, wanted), small.retarget_mouth(given).reshape(2, 21, 3))
    both = torch.stack([now, now + 0.01], 1)
    given = torch.cat([points.reshape(2, 63), both, wanted[:, None]], 1)
    torch.testing.assert_close(small.eyes(points, both, wanted), small.retarget_eye(given).reshape(2, 21, 3))
