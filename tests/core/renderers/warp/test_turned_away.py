"""Faces that look aside: what they hide does not pull at what they show."""

import math
from fractions import Fraction

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.field import GRID, MotionField
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.renderers.warp.turned_away import turned_away
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait


def turned(degrees: float) -> torch.Tensor:
    """(478, 3) pixels of the model face, turned aside."""
    face, turn = canonical_face(), math.radians(degrees)
    x = math.cos(turn) * face[:, 0] + math.sin(turn) * face[:, 2]
    z = math.cos(turn) * face[:, 2] - math.sin(turn) * face[:, 0]
    return torch.stack([x, face[:, 1], z], 1) * 80 + torch.tensor([200.0, 160.0, 0.0])


def opened(points: torch.Tensor) -> torch.Tensor:
    """(478, 2) pixels: the face with its mouth wide open and lips rounded."""
    one, zero = torch.ones(1), torch.zeros(1)
    curves = {name: zero for name in MOUTH_PARAMETERS} | {"opening": 0.9 * one, "jaw": 0.9 * one, "rounding": 0.5 * one}
    rest = LandmarkTrack.from_px(points[None], 400, 400, Fraction(25))
    head = HeadPose(torch.zeros(1, 3), torch.zeros(1, 3), one)
    return plan_landmarks(MotionPlan(rest, MouthCurves(**curves), zero, zero, head, Fraction(25))).points_px[0, :, :2]


@pytest.mark.parametrize("degrees", [0, 20, -30])
def test_faces_that_look_ahead_hide_nothing(degrees):
    assert turned_away(turned(degrees)[:, :2]) == set()


@pytest.mark.parametrize("degrees", [-55, 55])
def test_a_profile_hides_its_far_side(degrees):
    points = turned(degrees)
    hidden = turned_away(points[:, :2])
    far = points[:, 2] > points[[topo.CHIN, 1], 2].mean()  # z leads away from the viewer
    right, left = topo.MOUTH_CORNERS
    corner, other = (left, right) if points[left, 2] > points[right, 2] else (right, left)
    assert corner in hidden and other not in hidden
    assert far[list(hidden)].float().mean() > 0.9


@pytest.mark.parametrize("degrees", [-50, 50])
def test_the_field_of_a_profile_does_not_fold(degrees):
    """The mouth opens widely: nowhere does a map turn a patch of skin over, as it did when the far jaw pulled too."""
    points = turned(degrees)
    source, target = points[:, :2].contiguous(), opened(points)
    low, high = source.amin(0) - 40, source.amax(0) + 40
    field = MotionField(source, (*map(int, low.tolist()), *map(int, high.tolist())), 40.0)
    for weights, controls in zip(field.weights, field.controls, strict=True):
        moved = (weights @ (target - source)[controls]).view(GRID, GRID, 2)
        step = field.nodes[1, 1] - field.nodes[0, 0]
        across = (moved[:-1, 1:] - moved[:-1, :-1]) / step[0]
        down = (moved[1:, :-1] - moved[:-1, :-1]) / step[1]
        area = (1 + across[..., 0]) * (1 + down[..., 1]) - across[..., 1] * down[..., 0]
        assert float(area.min()) > 0.1


@pytest.mark.parametrize("degrees", [-50, 50])
def test_a_profiles_mouth_is_open_as_far_as_its_hidden_corner(degrees):
    """The lips meet nowhere there: shreds of them hung where its inside ended early."""
    points = turned(degrees)
    picture = torch.full((400, 400, 3), 200, dtype=torch.uint8)
    portrait = Portrait(picture, LandmarkTrack.from_px(points[None], 400, 400, Fraction(25)))
    target = points.clone()
    target[:, :2] = opened(points)
    (frame,) = PortraitRenderer(portrait, blinks=False).render(
        LandmarkTrack.from_px(target[None], 400, 400, Fraction(25))
    )
    mouth = Aperture.of(target[:, :2].contiguous(), MOUTH)
    far = 0.43 * mouth.width * (1 if points[topo.MOUTH_CORNERS[1], 2] > points[topo.MOUTH_CORNERS[0], 2] else -1)
    top, bottom = (float(edge) for edge in mouth.edge_heights(torch.tensor([far])))
    assert bottom - top > 10
    across = torch.stack([-mouth.along[1], mouth.along[0]])
    at = (mouth.origin + far * mouth.along + torch.arange(top + 4, bottom - 5)[:, None] * across).long()
    assert frame[at[:, 1], at[:, 0]].float().mean(-1).max() < 120
