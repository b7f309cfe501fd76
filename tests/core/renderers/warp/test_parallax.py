"""Faces that turn: skin along the head's outline is neither spread without limit nor folded."""

import math
from fractions import Fraction

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.field import GRID, MotionField
from portraittalk_core.renderers.warp.parallax import STEEPEST, Parallax, eased_depths
from portraittalk_core.types import HeadPose, LandmarkTrack, MotionPlan, MouthCurves


def turned(degrees: float) -> torch.Tensor:
    """(478, 3) pixels of the model face, turned aside."""
    face, turn = canonical_face(), math.radians(degrees)
    x = math.cos(turn) * face[:, 0] + math.sin(turn) * face[:, 2]
    z = math.cos(turn) * face[:, 2] - math.sin(turn) * face[:, 0]
    return torch.stack([x, face[:, 1], z], 1) * 80 + torch.tensor([200.0, 160.0, 0.0])


def turning(points: torch.Tensor, yaw_deg: float) -> torch.Tensor:
    """(1, 478, 3) pixels: the face turned by so much more."""
    rest, zero = LandmarkTrack.from_px(points[None], 400, 400, Fraction(25)), torch.zeros(1)
    head = HeadPose(torch.tensor([[0.0, yaw_deg, 0.0]]), torch.zeros(1, 3), torch.ones(1))
    return plan_landmarks(MotionPlan(rest, MouthCurves.closed(1), zero, zero, head, Fraction(25))).points_px


def stretches(points: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(2, N) greatest stretch, and area beside that at rest, of patches of skin between a field's nodes in the face."""
    source = points[:, :2].contiguous()
    low, high = source.amin(0) - 60, source.amax(0) + 60
    field = MotionField(source, (*map(int, low.tolist()), *map(int, high.tolist())), 60.0)
    head = field.head_motion(targets)
    of_head = torch.cat([source, torch.ones(len(source), 1)], 1) @ head[0]
    moved = field.weights[0] @ (targets[0] - of_head)[field.controls[0]]
    moved += (head[0].T @ field.positions - field.positions[:2]).T * field.carried[:, None]
    moved = moved.view(GRID, GRID, 2) + field.nodes
    step = field.nodes[1, 1] - field.nodes[0, 0]
    across, down = moved.diff(dim=1)[:-1] / step[0], moved.diff(dim=0)[:, :-1] / step[1]
    patches = torch.stack([across, down], -1)[(field.fade.view(GRID, GRID) == 1)[:-1, :-1]]
    return torch.stack([torch.linalg.svdvals(patches)[:, 0], torch.linalg.det(patches)])


@pytest.mark.parametrize(("aside", "yaw_deg"), [(-18, 15), (18, -15), (0, 15), (15, 10)])
def test_skin_is_neither_torn_nor_folded_as_a_head_turns(aside, yaw_deg):
    points = turned(aside)
    asked = turning(points, yaw_deg)
    spread, area = stretches(points, Parallax(points).softened(asked))
    assert spread.max() < 1.9
    assert area.min() > 0.25
    spread, area = stretches(points, asked[..., :2])
    assert spread.max() > 2.0 or area.min() < 0.2  # as the landmarks themselves ask


def test_a_face_that_looks_ahead_keeps_the_depth_of_its_features():
    points = turned(0)
    eased = eased_depths(points)
    features = [*topo.RIGID, *topo.LIPS, topo.NOSE_TIP]
    near = (points[features, 2] - eased[features]) / 80
    assert near.mean() < 0.01
    distances = (points[:, None, :2] - points[:, :2]).norm(dim=-1)
    assert ((eased[:, None] - eased) <= STEEPEST * distances + 1e-3).all()


def test_landmarks_of_a_head_that_does_not_turn_are_kept():
    points = turned(-20)
    moved = points + torch.tensor([7.0, -3.0, 0.0])
    moved[topo.CHIN, 1] += 9
    torch.testing.assert_close(Parallax(points).softened(moved[None])[0], moved[:, :2], rtol=0, atol=0.01)
