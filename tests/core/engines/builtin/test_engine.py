import math
from fractions import Fraction

import made_voice
import pytest
import torch

from portraittalk_core.engines.builtin.engine import plan_motion
from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.types import Speech

RATE = 16000


@pytest.fixture(scope="module")
def syllables() -> Speech:
    """Two seconds of syllables, four a second, then one second of silence."""
    return Speech(made_voice.syllables(3, end_s=2))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_plan_covers_the_speech(syllables, astronaut, fps):
    plan = plan_motion(syllables, astronaut.landmarks, MotionOptions(fps=fps))
    assert len(plan) == len(plan.blink) == len(plan.head) == math.ceil(3 * fps)


def test_motion_is_the_same_for_the_same_seed_and_another_for_another(syllables, astronaut):
    first, again, other = (
        whole_track(open_engine(), syllables, astronaut.landmarks, MotionOptions(seed=seed)).points
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_motion_in_spans_is_the_motion_of_the_whole(syllables, astronaut):
    plan = plan_motion(syllables, astronaut.landmarks)
    whole = plan_landmarks(plan).points
    spans = torch.cat([plan_landmarks(plan, a, a + 20).points for a in range(0, len(plan), 20)])
    torch.testing.assert_close(spans, whole, rtol=0, atol=1e-6)


def test_locked_silent_face_does_not_move(astronaut):
    still = MotionOptions(head_motion=0, blink_rate=0)
    points = whole_track(open_engine(), Speech(torch.zeros(RATE)), astronaut.landmarks, still).points
    assert torch.equal(points, points[:1].expand_as(points))


def test_mouth_opens_in_speech_and_rests_closed_after_it(syllables, astronaut):
    gap = mouth_open(whole_track(open_engine(), syllables, astronaut.landmarks))
    assert gap[:50].max() > 0.1
    assert gap[60:].max() < 0.01


def test_lips_that_part_for_breath_are_not_taken_for_speech(astronaut):
    speech = Speech(torch.cat([made_voice.syllables(3, end_s=2), made_voice.syllables(2, end_s=2)]))
    calm, breathing = (plan_motion(speech, astronaut.landmarks, MotionOptions(breath=b)) for b in (0, 1))
    assert (breathing.mouth.opening - calm.mouth.opening).max() > 0.1
    assert torch.equal(calm.gaze[:, 0], breathing.gaze[:, 0])  # its pitch follows the head, which rises
    for name in ("blink", "brow"):
        assert torch.equal(getattr(calm, name), getattr(breathing, name)), name
    assert torch.equal(calm.mouth.width, breathing.mouth.width)
