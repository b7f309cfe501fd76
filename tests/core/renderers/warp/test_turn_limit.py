"""The limit of a portrait's turns to the side."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.turn_limit import TurnLimit
from portraittalk_core.types import HeadPose, LandmarkTrack, MotionPlan, MouthCurves


def turned(portrait, *angles: tuple[float, float, float]) -> torch.Tensor:
    """Landmarks of a head turned by pitch, yaw and roll, pixels."""
    count, rest = len(angles), torch.zeros(len(angles))
    head = HeadPose(torch.tensor(angles), torch.full((count, 3), 0.04), torch.ones(count))
    plan = MotionPlan(portrait.landmarks, MouthCurves.closed(count), rest, rest, head, Fraction(25))
    return plan_landmarks(plan).points_px


def test_a_head_turns_no_further_than_it_may_and_that_is_told_once(astronaut, caplog):
    limit = TurnLimit(astronaut)
    asked = turned(astronaut, (3.0, 8.0, 0.0), (4.0, 24.5, 6.0), (-5.0, -31.0, 2.0))
    kept = limit.limited(asked)
    # the same head, asked for no more than it may
    allowed = turned(astronaut, (3.0, 8.0, 0.0), (4.0, 15.0, 6.0), (-5.0, -15.0, 2.0))
    torch.testing.assert_close(kept, allowed, rtol=0, atol=0.02)
    assert "the head of astronaut is to turn aside by -31.0°" in caplog.text
    assert "from -15° to 15°, and -15.0° are used" in caplog.text
    limit.limited(asked)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("aside", "limits"),
    [(0.0, (-15, 15)), (-5.0, (-15, 15)), (17.5, (-15, 10)), (-30.0, (-5, 11)), (30.0, (-11, 5)), (55.0, (-5, 5))],
)
def test_a_portrait_that_looks_aside_turns_less(astronaut, aside, limits):
    points = canonical_face() * 60 @ rotation_matrix(torch.tensor([[0.0, aside, 0.0]]))[0].T
    rest = LandmarkTrack.from_px(points[None] + torch.tensor([256.0, 220.0, 0.0]), 512, 512, Fraction(25))
    assert TurnLimit(replace(astronaut, landmarks=rest)).limits_deg == pytest.approx(limits, abs=0.7)


@pytest.mark.parametrize("yaw", [-15.0, 0.0, 15.0])
def test_what_it_may_is_left_as_it_is(astronaut, yaw, caplog):
    points = turned(astronaut, (2.0, yaw, -3.0))
    assert TurnLimit(astronaut).limited(points) is points
    assert not caplog.text
