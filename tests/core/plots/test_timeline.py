from __future__ import annotations

import base64
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import ShapeError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.plots.timeline import SENT_POINTS, eye_closure, timeline_payload
from portraittalk_core.types import LandmarkTrack, Speech

WIDTH, HEIGHT = 640, 480


def track_of(num_frames: int, fps=Fraction(25)) -> LandmarkTrack:
    """The canonical face, upright in the picture, in every frame."""
    face = canonical_face()[:478]
    face = torch.cat([face, face[:1].expand(478 - len(face), 3)]) if len(face) < 478 else face
    points = (face * torch.tensor([60.0, 60.0, 60.0]) + torch.tensor([320.0, 240.0, 0.0])).expand(num_frames, -1, -1)
    return LandmarkTrack.from_px(points.clone(), WIDTH, HEIGHT, fps)


def with_points(track: LandmarkTrack, frame: int, moves: dict[int, tuple[float, float]]) -> LandmarkTrack:
    points = track.points_px.clone()
    for index, (x, y) in moves.items():
        points[frame, index, :2] = torch.tensor([x, y])
    return LandmarkTrack.from_px(points, track.width, track.height, track.fps)


def decoded(face: dict) -> np.ndarray:
    """(frames, points, 2)"""
    return np.frombuffer(base64.b64decode(face["xy"]), dtype="<i2").reshape(-1, face["points"], 2)


def test_payload_is_json_with_a_time_for_every_frame():
    payload = json.loads(json.dumps(timeline_payload(track_of(50), None)))
    assert (payload["frames"], payload["seconds"], payload["fps"]) == (50, 2.0, 25.0)
    assert payload["curves"]["times"] == pytest.approx([0.02 + 0.04 * i for i in range(50)])
    assert payload["curves"]["gain"] == [1.0] * 50
    assert payload["wave"] is None


def test_mouth_curve_is_the_gap_over_the_eyes_distance():
    track = track_of(5)
    points = track.points_px[0]
    middle_x = float(points[topo.INNER_LIP_TOP, 0])
    eyes = [points[list(pair), :2].mean(0) for pair in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS)]
    distance = float(torch.dist(*eyes))
    closed = {topo.INNER_LIP_TOP: (middle_x, 300.0), topo.INNER_LIP_BOTTOM: (middle_x, 300.0)}
    for frame in range(5):
        track = with_points(track, frame, closed)
    track = with_points(track, 3, {topo.INNER_LIP_BOTTOM: (middle_x, 300.0 + distance / 4)})
    assert timeline_payload(track)["curves"]["mouth"] == pytest.approx([0, 0, 0, 0.25, 0], abs=1e-3)


def test_blink_is_one_where_the_lids_meet_and_zero_elsewhere():
    track = track_of(9)
    points = track.points_px[0]
    tops = {lower: tuple(points[upper, :2].tolist()) for upper, lower in ((159, 145), (386, 374))}
    closure = eye_closure(with_points(track, 4, tops))
    assert closure.tolist() == pytest.approx([0, 0, 0, 0, 1, 0, 0, 0, 0], abs=1e-3)


def test_wave_keeps_the_extremes_of_its_spans():
    waveform = torch.zeros(16_000)
    waveform[4000], waveform[12_000] = 0.5, -0.25
    wave = timeline_payload(track_of(25), Speech(waveform))["wave"]
    assert len(wave["low"]) == len(wave["high"]) == 2000
    assert wave["seconds"] == 1.0
    assert (wave["high"][500], max(wave["high"]), wave["high"].index(127)) == (127, 127, 500)
    assert (wave["low"][1500], min(wave["low"])) == (-64, -64)  # half of 127, to even


def test_silence_stays_small():
    wave = timeline_payload(track_of(25), Speech(torch.full((16_000,), 1e-6)))["wave"]
    assert max(wave["high"]) <= 2


def test_face_points_come_back_within_a_step():
    track = track_of(3)
    track = with_points(track, 2, {topo.CHIN: (300.0, 470.0)})
    face = timeline_payload(track)["face"]
    points = decoded(face)
    assert points.shape == (3, len(SENT_POINTS), 2)
    true = track.points_px[:, list(SENT_POINTS), :2].numpy()
    low, size = true.min((0, 1)), (true.max((0, 1)) - true.min((0, 1)))
    assert np.abs(points * size.max() / 32767 + low - true).max() <= size.max() / 32767
    assert (face["width"], face["height"]) == tuple(points.max((0, 1)))


def test_edges_join_points_that_are_neighbours_on_the_face():
    face = timeline_payload(track_of(1))["face"]
    joined = {frozenset(SENT_POINTS[i] for i in pair) for pair in face["skin"] + face["lips"]}
    for pair in ((10, 338), (109, 10), (46, 53), (246, 33), (7, 33), (133, 155), (61, 185), (61, 146), (324, 308)):
        assert frozenset(pair) in joined
    assert all(len(pair) == 2 for pair in joined)
    used = {i for pair in face["skin"] + face["lips"] for i in pair} | set(face["irises"])
    assert used == set(range(face["points"]))
    assert [SENT_POINTS[i] for i in face["irises"]] == [468, 473]


@pytest.mark.slow
def test_an_hour_stays_small_and_keeps_its_one_blink():
    count = 90_000
    track = track_of(1)
    points = track.points.expand(count, -1, -1).clone()
    points[54_321, 145], points[54_321, 374] = points[0, 159], points[0, 386]
    track = LandmarkTrack(points, torch.ones(count, dtype=torch.bool), Fraction(25), WIDTH, HEIGHT)
    speech = Speech(torch.randn(3600 * 16_000, generator=torch.Generator().manual_seed(0)) * 0.1)
    payload = timeline_payload(track, speech, torch.linspace(0, 2, count))
    assert len(json.dumps(payload)) < 1_500_000
    curves = payload["curves"]
    assert {len(values) for values in curves.values()} == {2000}
    shut = [i for i, value in enumerate(curves["blink"]) if value > 0.9]
    assert len(shut) == 1
    assert abs(curves["times"][shut[0]] - 54_321.5 / 25) < 1.8
    assert curves["gain"] == pytest.approx(np.linspace(0, 2, count).reshape(2000, 45).mean(1), abs=1e-3)
    assert len(payload["face"]["times"]) == 600
    assert payload["face"]["times"][0] == 0.02
    assert payload["face"]["times"][-1] == pytest.approx(3600 - 0.02)


def test_gain_of_another_length_is_rejected():
    with pytest.raises(ShapeError, match="10"):
        timeline_payload(track_of(10), None, torch.ones(9))
