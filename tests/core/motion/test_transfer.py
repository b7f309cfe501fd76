import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.geometry import align
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.motion.transfer import belongs_to, transfer_motion
from portraittalk_core.types import LandmarkTrack


def rotation_about_z(degrees: float) -> torch.Tensor:
    a = torch.deg2rad(torch.tensor(degrees))
    return torch.tensor([[a.cos(), -a.sin(), 0], [a.sin(), a.cos(), 0], [0, 0, 1]])


def test_align_recovers_a_known_similarity():
    points = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0))
    turn, shift = rotation_about_z(30), torch.tensor([1.0, -2.0, 0.5])
    scale, rotation, moved = align(points, 1.7 * points @ turn.T + shift)
    torch.testing.assert_close(scale, torch.tensor([1.7]))
    torch.testing.assert_close(rotation[0], turn, rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[0], shift, rtol=0, atol=1e-5)


def test_a_track_made_on_the_portrait_belongs_to_it(make_plan, astronaut):
    track = plan_landmarks(make_plan(opening=[0.1, 0.8], angles_deg=[[0.0, 0, 0], [2.0, 3.0, 1.0]]))
    assert belongs_to(track, astronaut.landmarks)


def test_another_face_or_another_place_does_not_belong(make_plan, astronaut):
    track = plan_landmarks(make_plan(opening=[0.1, 0.8]))
    moved = LandmarkTrack(track.points + torch.tensor([0.2, 0, 0]), track.valid, track.fps, 512, 512)
    stretch = torch.tensor([1.25, 0.9, 1.0])
    wider = LandmarkTrack((track.points - 0.4) * stretch + 0.4, track.valid, track.fps, 512, 512)
    assert not belongs_to(moved, astronaut.landmarks)
    assert not belongs_to(wider, astronaut.landmarks)


def test_transfer_repeats_the_drivers_mouth_whatever_its_place_and_size(make_plan, astronaut):
    opening = [0.0, 0.3, 0.9, 0.5]
    driver = plan_landmarks(make_plan(opening=opening, angles_deg=[[0.0, 0, 0]] * 4))
    shift = torch.tensor([100.0, 300.0, 0])
    elsewhere = LandmarkTrack.from_px(1.5 * driver.points_px @ rotation_about_z(12).T + shift, 1024, 1024, driver.fps)
    carried = transfer_motion(elsewhere, astronaut.landmarks).points_px
    assert carried.shape == driver.points_px.shape
    torch.testing.assert_close(carried, driver.points_px, rtol=0, atol=0.6)  # px, of a face of 110 px


def test_transfer_starts_in_the_portraits_own_pose_and_follows_the_turn(make_plan, astronaut):
    driver = plan_landmarks(make_plan(angles_deg=[[0.0, 0, 10.0], [0.0, 0, 16.0]]))
    carried = transfer_motion(driver, astronaut.landmarks).points_px
    eyes = carried[:, topo.LEFT_EYE_CORNERS[1]] - carried[:, topo.RIGHT_EYE_CORNERS[0]]
    at_rest = astronaut.landmarks.points_px[0]
    own = at_rest[topo.LEFT_EYE_CORNERS[1]] - at_rest[topo.RIGHT_EYE_CORNERS[0]]
    roll = torch.rad2deg(torch.atan2(eyes[:, 1], eyes[:, 0]) - torch.atan2(own[1], own[0]))
    torch.testing.assert_close(roll, torch.tensor([0.0, 6.0]), rtol=0, atol=0.3)
