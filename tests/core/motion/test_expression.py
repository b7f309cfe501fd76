"""Expressions of emotions."""

import dataclasses
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.geometry import stabilised
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.face.mesh.search import detect_faces
from portraittalk_core.motion.expression import (
    ACTIONS,
    CROSS_FADE_S,
    EMOTIONS,
    emotion_amounts,
    emotion_points,
    expression_of,
)
from portraittalk_core.motion.options import EMOTION_NAMES, MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.types import HeadPose, MotionPlan, MouthCurves

NAMES = list(EMOTIONS)
RATE = Fraction(25)


@pytest.fixture(scope="module")
def rendered(astronaut):
    """Landmarks that the face mesh finds in a picture of every emotion, at rest, in one head's axes."""
    count = len(NAMES)
    still = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    amounts = torch.stack([emotion_amounts(name, 1.0) for name in NAMES])
    shut = torch.zeros(count)
    plan = MotionPlan(astronaut.landmarks, MouthCurves.closed(count), shut, shut, still, RATE, 0.0, amounts)
    with open_mesh() as mesh:
        pictures = portrait_renderer(astronaut).render(plan_landmarks(plan))
        found = torch.stack([detect_faces(picture, mesh, thorough=False)[0] for picture in pictures])
    return dict(zip(NAMES, stabilised(found * 512), strict=True))


def brow(points: torch.Tensor, part: slice) -> float:
    """How high both brows' lower rows stand over the eyes, inter-ocular distances."""
    return float(
        -torch.cat([points[list(topo.RIGHT_BROW[:5])[part], 1], points[list(topo.LEFT_BROW[:5])[part], 1]]).mean()
    )


def lids(points: torch.Tensor) -> float:
    return float((points[[145, 374], 1] - points[[159, 386], 1]).mean())


def corners(points: torch.Tensor) -> float:
    """How high the mouth's corners stand over its middle."""
    return float(points[[13, 14], 1].mean() - points[list(topo.MOUTH_CORNERS), 1].mean())


OUTER, INNER = slice(0, 2), slice(3, 5)


@pytest.mark.parametrize(
    ("emotion", "measure", "sign"),
    [
        ("happy", corners, 1),
        ("happy", lids, -1),
        ("sad", corners, -1),
        ("sad", lambda points: brow(points, INNER) - brow(points, OUTER), 1),
        ("angry", lambda points: brow(points, INNER), -1),
        ("surprised", lambda points: brow(points, OUTER), 1),
        ("surprised", lids, 1),
        ("disgusted", lids, -1),
        ("afraid", lambda points: brow(points, INNER), 1),
        ("afraid", lids, 1),
    ],
)
def test_the_picture_shows_the_emotion(rendered, emotion, measure, sign):
    plain, shown = measure(rendered["neutral"]), measure(rendered[emotion])
    assert sign * (shown - plain) > 0.008


def test_the_names_are_the_options(rendered):
    assert tuple(EMOTIONS) == EMOTION_NAMES == tuple(rendered)
    assert {action for amounts in EMOTIONS.values() for action in amounts} == set(ACTIONS)


@pytest.mark.parametrize("changes", [{}, {"emotion": "sad", "emotion_strength": 0.0}])
def test_nothing_shows_by_default_and_at_strength_0(changes):
    assert expression_of(MotionOptions(**changes), 10) is None


def test_half_the_strength_moves_half_as_far(make_plan):
    plan = make_plan(opening=[0.0, 0.0, 0.0])
    whole = dataclasses.replace(plan, expression=torch.stack([emotion_amounts("angry", s) for s in (0.0, 0.5, 1.0)]))
    points = plan_landmarks(whole).points_px
    torch.testing.assert_close(points[1] - points[0], (points[2] - points[0]) / 2, rtol=0, atol=1e-3)


@pytest.mark.parametrize("emotion", ["surprised", "disgusted", "afraid"])
def test_lips_that_close_for_a_sound_close_nevertheless(make_plan, emotion):
    plan = make_plan(opening=[0.3, 0.3], press=[0.0, 1.0])
    shown = dataclasses.replace(plan, expression=emotion_amounts(emotion, 1.0).expand(2, -1))
    gap = (
        plan_landmarks(shown).points_px[:, topo.INNER_LIP_BOTTOM, 1]
        - plan_landmarks(shown).points_px[:, topo.INNER_LIP_TOP, 1]
    )
    assert float(gap[1]) < 1.0 < float(gap[0])


def test_emotions_follow_each_other():
    points = emotion_points('[[2, "sad", 1], [1, "happy", 0.5]]')
    assert points == [(1.0, "happy", 0.5), (2.0, "sad", 1.0)]
    curve = expression_of(MotionOptions(emotion_strength=0.8, emotion_points=tuple(points)), 75)
    assert not curve[:25].any()
    torch.testing.assert_close(curve[45], emotion_amounts("happy", 0.4))
    torch.testing.assert_close(curve[-1], emotion_amounts("sad", 0.8))
    between = 50 + round(25 * CROSS_FADE_S / 2)
    smile = ACTIONS.index("smile")
    assert 0 < float(curve[between, smile]) < float(curve[45, smile])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[0, 1]]", r"emotion point 1 must be \[seconds, emotion, strength\]"),
        ('[[0, "glad", 1]]', "must be one of neutral, happy"),
        ('[[0, "sad", 1.5]]', "strength from 0 to 1, not 1.5"),
        ('[[-1, "sad", 1]]', "must begin at 0 s or later"),
        ('[[0, "sad", true]]', "strength from 0 to 1"),
        ('[[1e999, "sad", 1]]', "must begin at 0 s"),
        ('{"a": 1}', "a list of at most"),
        ("[[", "write it as"),
    ],
)
def test_what_is_no_emotion_point_is_told(text, message):
    with pytest.raises(InputError, match=message):
        emotion_points(text)


def test_an_unknown_emotion_is_told():
    with pytest.raises(InputError, match="emotion must be one of neutral, happy, .* not 'glad'"):
        MotionOptions(emotion="glad")
