"""Bridges between landmarks and keypoints: closed forms with a model whose keypoints are known functions of a crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reading_model import ANGLES, SHIFT, FaceReader, ReadingModel
from scipy.spatial.transform import Rotation

from portraittalk_core.errors import InputError
from portraittalk_core.face.geometry import head_pose, rotation_matrix
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.motion import keypoint_time
from portraittalk_core.motion.keypoint_edit import in_head_axes
from portraittalk_core.motion.keypoint_regions import REGIONS
from portraittalk_core.motion.keypoint_rotation import head_angles, rotation_of
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit import bridges
from portraittalk_core.renderers.implicit.contract import Keypoints
from portraittalk_core.renderers.implicit.extract import keypoints_of_picture
from portraittalk_core.renderers.implicit.files import random_model
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.types import LandmarkTrack

LAYOUTS = ["liveportrait-21", "face-vid2vid-15"]


def moved(landmarks: LandmarkTrack, angles_deg, scale=1.0, shift=(0.0, 0.0, 0.0)) -> tuple[LandmarkTrack, tuple]:
    """Landmarks turned about their middle, by scipy; and the similarity p' = scale · R p + t, pixels."""
    pitch, yaw, roll = angles_deg
    turn = Rotation.from_euler("xyz", [pitch, -yaw, roll], degrees=True).as_matrix()  # our yaw is to the right
    points = landmarks.points_px.double().numpy()
    middle = points[0].mean(0)
    place = middle + np.array(shift) - scale * turn @ middle
    track = LandmarkTrack.from_px(torch.from_numpy(scale * points @ turn.T + place), landmarks.width,
                                  landmarks.height, landmarks.fps)  # fmt: skip
    return track, (scale, turn, place)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_placed_keypoints_follow_the_head_as_a_solid_body(small, layout):
    """Model place(moved keypoints) must be the picture's own similarity applied to place(source keypoints)."""
    model = ReadingModel(layout)
    face, crop = keypoints_of_picture(model, small.picture, small.landmarks.points_px[0])
    head = bridges.HeadOfLandmarks(small.landmarks, face, crop, layout)
    span, (scale, turn, place) = moved(small.landmarks, (6.0, -12.0, 9.0), 1.15, (5.0, -3.0, 2.0))
    track = head.track(span, torch.zeros(1, face.canonical.shape[1], 3))
    got = model.place(face.with_motion(track))[0].double().numpy()
    # source keypoints from half crops to the picture's pixels, with depth on the same scale
    matrix, unit = crop.to_picture.double().numpy(), crop.side_px / 2
    source = model.place(face)[0].double().numpy()
    depth = small.landmarks.points_px[0, :, 2].double().mean().item()

    def to_px(points: np.ndarray) -> np.ndarray:
        on_crop = (points[:, :2] + 1) * crop.size / 2 - 0.5
        flat = on_crop @ matrix[:, :2].T + matrix[:, 2] + 0.5
        return np.concatenate([flat, ((points[:, 2] - bridges.FACE_DEPTH) * unit + depth)[:, None]], 1)

    if layout == "liveportrait-21":  # its depth takes no translation
        source[:, 2] += SHIFT[2]
        got[:, 2] += float(track.translation[0, 2])
    expected = scale * to_px(source) @ turn.T + place
    np.testing.assert_allclose(to_px(got), expected, atol=0.02)
    assert float(track.scale[0]) == pytest.approx(1.15 * float(face.scale[0]), rel=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_head_turns_to_the_same_side_in_both_families_and_ours(small, layout):
    model, _ = random_model(layout)
    face, crop = keypoints_of_picture(model, small.picture, small.landmarks.points_px[0])
    nose = torch.zeros_like(face.canonical)
    nose[:, :, 2] = -0.3  # a point before the head, towards the viewer
    level = Keypoints(nose, torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1), torch.zeros_like(nose))
    head = bridges.HeadOfLandmarks(small.landmarks, level, crop, layout)
    still = head.track(small.landmarks, torch.zeros_like(nose))
    for angles, axis in (((0.0, 15.0, 0.0), 0), ((15.0, 0.0, 0.0), 1)):
        span, _ = moved(small.landmarks, angles)
        measured = head_pose(span).angles_deg - head_pose(small.landmarks).angles_deg
        assert float(measured[0, 1 - axis]) > 10  # our measure: to the viewer's right, and down
        turned = head.track(span, torch.zeros_like(nose))
        # the nose goes there beside the head's middle, with the very networks' convention
        tips = [model.place(level.with_motion(track))[0, 0] - track.translation[0] for track in (still, turned)]
        assert float((tips[1] - tips[0])[axis]) > 0.05
        np.testing.assert_allclose(head_angles(turned)[0] - head_angles(still)[0], angles, atol=4.0)  # crops lean


@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_turn_keypoints_by_the_rotations_that_edits_use(layout):
    model, _ = random_model(layout)
    draw = torch.Generator().manual_seed(0)
    count = model.keypoints(torch.zeros(1, 3, model.input_size, model.input_size)).canonical.shape[1]
    canonical, zeros = torch.randn(5, count, 3, generator=draw), torch.zeros(5, count, 3)
    angles = 30 * torch.randn(5, 3, generator=draw)
    placed = model.place(Keypoints(canonical, angles, torch.zeros(5, 3), torch.ones(5), zeros))
    expected = canonical.double() @ rotation_of(layout, angles).transpose(1, 2)
    torch.testing.assert_close(placed.double(), expected, atol=1e-5, rtol=0)


def test_head_motion_is_taken_out_of_landmarks(small):
    face, crop = keypoints_of_picture(ReadingModel(), small.picture, small.landmarks.points_px[0])
    head = bridges.HeadOfLandmarks(small.landmarks, face, crop, "liveportrait-21")
    span, _ = moved(small.landmarks, (4.0, 10.0, -20.0), 0.9, (9.0, 0.0, 1.0))
    torch.testing.assert_close(head.held(span).points_px, small.landmarks.points_px, atol=0.02, rtol=0)
    double = LandmarkTrack(span.points, span.valid, span.fps, 384, 384)  # the same picture twice as large
    torch.testing.assert_close(head.held(double).points_px, small.landmarks.points_px, atol=0.02, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_warp_bridge_recovers_what_the_model_sees(small, make_plan, layout):
    """With a model that is affine in the crop, E is E_s + W (cells of the warped frame − cells of the warped rest)."""
    model = ReadingModel(layout)
    plan = make_plan(small.landmarks, opening=[0.0, 0.5, 1.0, 0.2, 0.8], jaw=[0.0, 0.5, 1.0, 0.2, 0.8])
    asked = plan_landmarks(plan)
    spans = [asked.slice(0, 3), asked.slice(3, 5)]
    got = list(bridges.keypoints_of_landmarks(model, small, iter(spans), batch=2))
    assert [len(track) for track in got] == [3, 2]
    track = keypoint_time.join(got)
    face, crop = keypoints_of_picture(model, small.picture, small.landmarks.points_px[0])
    held = bridges.HeadOfLandmarks(small.landmarks, face, crop, layout).held(asked)
    both = (track for track in (small.landmarks, held))
    pictures = list(warped_pictures(RenderJob(small, both, 6, asked.fps)))
    seen = model.expression(torch.cat([crop.take(picture) for picture in pictures]))
    expected = face.expression + seen[1:] - seen[:1]
    torch.testing.assert_close(track.expression, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(track.rotation_deg, torch.tensor([ANGLES]).expand(5, 3), atol=0.02, rtol=0)
    torch.testing.assert_close(track.translation, torch.tensor([SHIFT]).expand(5, 3), atol=1e-3, rtol=0)
    assert float((expected[2] - expected[0]).abs().max()) > 0.005  # the mouth does move what the model sees


def test_spans_are_pulled_one_at_a_time(small, make_plan):
    asked = plan_landmarks(make_plan(small.landmarks, opening=[0.0, 0.5]))
    pulled = []

    def spans():
        for number in range(2):
            pulled.append(number)
            yield asked.slice(number, number + 1)

    found = bridges.keypoints_of_landmarks(ReadingModel(), small, spans())
    assert pulled == []
    next(found)
    assert pulled == [0]
    next(found)
    assert pulled == [0, 1] and next(found, None) is None


def test_expression_turns_with_the_head(small):
    face, crop = keypoints_of_picture(ReadingModel(), small.picture, small.landmarks.points_px[0])
    head = bridges.HeadOfLandmarks(small.landmarks, face, crop, "liveportrait-21")
    span, (_, turn, _) = moved(small.landmarks, (0.0, 0.0, 25.0))
    opened = torch.zeros(1, 21, 3)
    opened[0, 19, 1] = 0.1
    track = head.track(span, opened)
    expected = (face.expression[0] + opened[0]).double().numpy() @ turn.T  # a roll is the same in crop and picture
    np.testing.assert_allclose(track.expression[0], expected, atol=1e-4)


class Retargeting:
    """Networks whose displacements are the ratios' differences, along one axis each."""

    def lips(self, source, source_ratio, wanted_ratio):
        assert len(source) == len(source_ratio) == len(wanted_ratio)
        return (wanted_ratio - source_ratio)[:, None, None] * torch.tensor([0.0, 1.0, 0.0]).expand(1, 21, 3)

    def eyes(self, source, source_ratio, wanted_ratio):
        assert source_ratio.shape == (len(source), 2) and wanted_ratio.shape == (len(source),)
        return (0.3 + wanted_ratio - source_ratio.mean(1))[:, None, None] * torch.tensor([1.0, 0.0, 0.0])


def test_lips_bridge_asks_for_the_opening_of_the_landmarks(small, make_plan):
    model = ReadingModel()
    plan = make_plan(small.landmarks, opening=[0.0, 0.5, 1.0], blink=[0.0, 0.0, 1.0])
    asked = plan_landmarks(plan)
    track = next(bridges.keypoints_of_lips(model, Retargeting(), small, [asked]))
    face, _ = keypoints_of_picture(model, small.picture, small.landmarks.points_px[0])
    added = (track.expression - face.expression) * 1.3  # the family's scale comes after the expression
    lips, eyes = bridges.lip_ratio(asked.points_px), bridges.eye_ratios(asked.points_px).mean(1)
    rest = bridges.lip_ratio(small.landmarks.points_px)
    torch.testing.assert_close(added[:, 5, 1], bridges.PUBLIC_RATIO * (lips - rest), atol=2e-3, rtol=0)
    was = bridges.eye_ratios(small.landmarks.points_px).mean()
    torch.testing.assert_close(added[:, 5, 0], eyes - was, atol=2e-3, rtol=0)
    assert float(eyes[2]) < 0.5 * float(eyes[0]) and float(lips[2]) > float(lips[1]) > float(lips[0])


def test_lips_bridge_needs_retargeting(small):
    with pytest.raises(InputError, match="face-vid2vid-15 has no retargeting network.*take the bridge warp"):
        next(bridges.keypoints_of_lips(ReadingModel("face-vid2vid-15"), None, small, [small.landmarks]))


def test_ratios_are_those_of_their_points():
    points = torch.zeros(1, 478, 2)
    points[0, [61, 291, 13, 14]] = torch.tensor([[0.0, 0.0], [40.0, 0.0], [20.0, -2.0], [20.0, 6.0]])
    points[0, [362, 263, 386, 374]] = torch.tensor([[0.0, 0.0], [20.0, 0.0], [10.0, -3.0], [10.0, 3.0]])
    points[0, [33, 133, 159, 145]] = torch.tensor([[0.0, 0.0], [10.0, 0.0], [5.0, 0.0], [5.0, 1.0]])
    assert bridges.lip_ratio(points).tolist() == pytest.approx([0.2])
    assert bridges.eye_ratios(points)[0].tolist() == pytest.approx([0.3, 0.1])  # left, right


def test_what_the_mesh_sees_through_the_bridge_rises_with_what_is_asked(small, make_plan):
    openings, angles = [0.0, 0.25, 0.5, 0.75, 1.0], [[0.0, 3.0 * t, 0.0] for t in range(5)]
    asked = plan_landmarks(make_plan(small.landmarks, opening=openings, angles_deg=angles))
    with open_mesh() as mesh:
        track = next(bridges.keypoints_of_landmarks(FaceReader(mesh), small, [asked]))
    opening, wanted = in_head_axes(track)[:, 19, 1], bridges.lip_ratio(asked.points_px)
    assert bool((opening.diff() > 0).all()), opening
    assert float(opening[0]) < 0.04  # shut
    np.testing.assert_allclose(opening, wanted, atol=0.08)  # the mesh sees a painted mouth a fifth less open
    assert np.corrcoef(opening, wanted)[0, 1] > 0.99


def test_basis_is_measured_on_the_model(small):
    with open_mesh() as mesh:
        basis = bridges.measured_basis(FaceReader(mesh, "face-vid2vid-15"), small)
    assert set(basis.shares) == set(REGIONS) and basis.layout == "face-vid2vid-15"
    torch.testing.assert_close(sum(basis.shares.values()), torch.ones(15))
    for keypoint, region in ((14, "mouth"), (11, "eyes"), (1, "brows")):
        shares = {name: round(float(share[keypoint]), 2) for name, share in basis.shares.items()}
        assert shares[region] >= 0.75, (region, shares)
    still = [k for k in range(15) if k not in (14, 11, 1)]
    assert torch.equal(basis.shares["rest"][still], torch.ones(12))
    # one distance of corners more of opening moves the keypoint by one; shut eyes lower it by their opening
    assert float(basis.parting[14, 1]) == pytest.approx(1, abs=0.25)
    was = float(bridges.eye_ratios(small.landmarks.points_px).mean())
    assert 0.4 * was < float(basis.shutting[11, 1]) < 1.1 * was  # the mesh never sees such small eyes quite shut


def test_our_rotation_is_scipys():
    angles = torch.tensor([[10.0, 20.0, -30.0]])
    expected = Rotation.from_euler("xyz", [10, -20, -30], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_matrix(angles.double())[0], expected, atol=1e-12)
