"""A keypoint track on the timeline: what the page reads, against the track itself."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.motion.keypoint_edit import added
from portraittalk_core.motion.keypoint_regions import known_basis
from portraittalk_core.plots.keypoint_timeline import keypoint_timeline_payload
from portraittalk_core.plots.timeline import SENT_POINTS, timeline_payload
from portraittalk_core.types import KeypointTrack, LandmarkTrack, Speech

FRAMES, GAP = 50, 0.3  # the lips part by so many distances of the mouth's corners
LIVEPORTRAIT = "liveportrait-21"


def still(layout: str = LIVEPORTRAIT, frames: int = FRAMES) -> KeypointTrack:
    points = {LIVEPORTRAIT: 21, "face-vid2vid-15": 15}[layout]
    zeros, ones = torch.zeros(frames, 3), torch.ones(frames)
    seen = torch.ones(frames, dtype=torch.bool)
    return KeypointTrack(torch.zeros(frames, points, 3), zeros, zeros, ones, seen, Fraction(25), layout)


def speaking(frames: int = FRAMES) -> KeypointTrack:
    """Lips that open in the middle of the track, a blink a little later, a head turned at its end."""
    basis, at = known_basis(LIVEPORTRAIT), torch.arange(frames)
    opened = added(still(frames=frames), GAP * (at == frames // 2), basis.parting)
    angles = torch.zeros(frames, 3)
    angles[-1, 1] = -40.0  # LivePortrait's yaw grows to the viewer's left
    return replace(added(opened, 1.0 * (at == frames // 2 + 5), basis.shutting), rotation_deg=angles)


def faces(payload: dict) -> np.ndarray:
    face = payload["face"]
    return np.frombuffer(base64.b64decode(face["xy"]), dtype="<i2").reshape(-1, face["points"], 2).astype(int)


@pytest.mark.parametrize("layout", [LIVEPORTRAIT, "face-vid2vid-15"])
def test_payload_has_the_form_of_a_landmark_track(layout):
    payload = keypoint_timeline_payload(still(layout), Speech(torch.zeros(32_000), 16_000))
    points = torch.rand(FRAMES, 478, 3)
    other = timeline_payload(LandmarkTrack(points, torch.ones(FRAMES, dtype=torch.bool), Fraction(25), 64, 64))
    assert set(payload) == set(other) and set(payload["curves"]) == set(other["curves"])
    assert json.loads(json.dumps(payload)) == payload
    assert (payload["seconds"], payload["frames"], payload["wave"]["seconds"]) == (2.0, FRAMES, 2.0)
    assert {len(values) for values in payload["curves"].values()} == {FRAMES}


def test_curves_are_the_lips_parting_and_the_blinks():
    curves = keypoint_timeline_payload(speaking())["curves"]
    expected = np.zeros(FRAMES)
    expected[FRAMES // 2] = GAP
    assert curves["mouth"] == pytest.approx(expected, abs=2e-3)
    assert int(np.argmax(curves["blink"])) == FRAMES // 2 + 5
    assert curves["blink"][FRAMES // 2 + 5] == pytest.approx(1.0, abs=0.01) and curves["blink"][0] < 0.05


def test_the_face_turns_blinks_and_opens_its_mouth():
    points = faces(keypoint_timeline_payload(speaking()))
    rest, opened, shut, turned = points[0], points[FRAMES // 2], points[FRAMES // 2 + 5], points[-1]
    upper, lower, lid, under = (SENT_POINTS.index(point) for point in (13, 14, 159, 145))
    eyes = [SENT_POINTS.index(point) for point in (33, 263)]
    assert opened[lower, 1] - opened[upper, 1] > rest[lower, 1] - rest[upper, 1] + 300
    assert shut[under, 1] - shut[lid, 1] < 0.4 * (rest[under, 1] - rest[lid, 1])
    assert np.ptp(turned[eyes, 0]) < 0.9 * np.ptp(rest[eyes, 0])  # foreshortened by cos 40 degrees
    assert turned[:, 0].mean() > rest[:, 0].mean()  # to the viewer's right


def test_a_long_track_keeps_its_widest_opening():
    payload = keypoint_timeline_payload(speaking(5000))
    assert len(payload["curves"]["mouth"]) == 2000 == len(payload["curves"]["blink"])
    assert max(payload["curves"]["mouth"]) == pytest.approx(GAP, abs=2e-3)
    assert len(payload["face"]["times"]) == 600


def test_the_factor_is_sent_as_gain():
    gain = torch.linspace(0, 2, FRAMES)
    assert keypoint_timeline_payload(still(), gain=gain)["curves"]["gain"] == pytest.approx(gain.tolist(), abs=1e-3)
