"""A keypoint track on the timeline: what the page reads, against the track itself."""

from __future__ import annotations

import base64
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.plots.keypoint_timeline import keypoint_timeline_payload
from portraittalk_core.plots.timeline import SENT_POINTS, timeline_payload
from portraittalk_core.types import KeypointTrack, LandmarkTrack, Speech

FRAMES, LIP, CHEEK = 50, 14, 0  # keypoints of LivePortrait


def track_of(layout: str = "liveportrait-21", frames: int = FRAMES) -> KeypointTrack:
    """Lips that open in the middle of the track, on a head that turns to the viewer's right at its end."""
    points = {"liveportrait-21": 21, "face-vid2vid-15": 15}[layout]
    expression, angles = torch.zeros(frames, points, 3), torch.zeros(frames, 3)
    expression[frames // 2, LIP, 1] = 0.05
    angles[-1, 1] = 40.0
    zeros, ones = torch.zeros(frames, 3), torch.ones(frames)
    return KeypointTrack(expression, angles, zeros, ones, torch.ones(frames, dtype=torch.bool), Fraction(25), layout)


def faces(payload: dict) -> np.ndarray:
    face = payload["face"]
    return np.frombuffer(base64.b64decode(face["xy"]), dtype="<i2").reshape(-1, face["points"], 2)


@pytest.mark.parametrize("layout", ["liveportrait-21", "face-vid2vid-15"])
def test_payload_has_the_form_of_a_landmark_track(layout):
    payload = keypoint_timeline_payload(track_of(layout), Speech(torch.zeros(32_000), 16_000))
    points = torch.rand(FRAMES, 478, 3)
    other = timeline_payload(LandmarkTrack(points, torch.ones(FRAMES, dtype=torch.bool), 64, 64, Fraction(25)))
    assert set(payload) == set(other) and set(payload["curves"]) == set(other["curves"])
    assert json.loads(json.dumps(payload)) == payload
    assert (payload["seconds"], payload["frames"], payload["wave"]["seconds"]) == (2.0, FRAMES, 2.0)
    assert {len(values) for values in payload["curves"].values()} == {FRAMES}


def test_mouth_is_the_lips_distance_from_their_mean():
    mouth = keypoint_timeline_payload(track_of())["curves"]["mouth"]
    assert int(np.argmax(mouth)) == FRAMES // 2
    # one of six lip keypoints is 0.05 away; the mean lies 1/50 of the way
    assert mouth[FRAMES // 2] == pytest.approx(0.05 * 49 / 50 / 6, abs=1e-4)
    still = track_of()
    still.expression[:, LIP] = 0
    still.expression[3, CHEEK] = 1.0  # which is no lip
    assert max(keypoint_timeline_payload(still)["curves"]["mouth"]) == 0


def test_the_face_turns_and_opens_its_mouth():
    payload = keypoint_timeline_payload(track_of())
    points, times = faces(payload).astype(int), payload["face"]["times"]
    rest, opened, turned = points[0], points[FRAMES // 2], points[-1]
    upper, lower = (SENT_POINTS.index(point) for point in (13, 14))
    assert len(times) == FRAMES
    assert opened[lower, 1] - opened[upper, 1] > rest[lower, 1] - rest[upper, 1] + 300
    eyes = [SENT_POINTS.index(point) for point in (33, 263)]
    assert np.ptp(turned[eyes, 0]) < 0.9 * np.ptp(rest[eyes, 0])  # foreshortened by cos 40 degrees
    assert turned[:, 0].mean() > rest[:, 0].mean()


def test_a_long_track_keeps_its_widest_opening():
    payload = keypoint_timeline_payload(track_of(frames=5000))
    assert len(payload["curves"]["mouth"]) == 2000 == len(payload["curves"]["blink"])
    assert max(payload["curves"]["mouth"]) == pytest.approx(0.05 / 6, abs=2e-4)
    assert len(payload["face"]["times"]) == 600


def test_the_factor_is_sent_as_gain():
    gain = torch.linspace(0, 2, FRAMES)
    assert keypoint_timeline_payload(track_of(), gain=gain)["curves"]["gain"] == pytest.approx(gain.tolist(), abs=1e-3)
