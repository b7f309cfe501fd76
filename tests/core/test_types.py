"""The records check themselves on construction, convert units and survive a round trip."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.types import (
    MOUTH_PARAMETERS,
    HeadPose,
    LandmarkTrack,
    MouthCurves,
    Portrait,
    Speech,
    as_fps,
    check_picture,
    num_frames_for,
)


def track(num_frames: int = 2, width: int = 200, height: int = 100, **changes) -> LandmarkTrack:
    given = {
        "points": torch.full((num_frames, 478, 3), 0.5),
        "valid": torch.ones(num_frames, dtype=torch.bool),
        "fps": Fraction(25),
        "width": width,
        "height": height,
    }
    return LandmarkTrack(**(given | changes))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (25, Fraction(25)),
        (25.0, Fraction(25)),
        (12.5, Fraction(25, 2)),
        ("30000/1001", Fraction(30000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (Fraction(24), Fraction(24)),
    ],
)
def test_as_fps_is_exact(given, expected):
    assert as_fps(given) == expected


@pytest.mark.parametrize("given", [0, -25, 241, "fast", "1/0", float("nan"), float("inf"), None])
def test_as_fps_rejects(given):
    with pytest.raises(InputError, match="fps"):
        as_fps(given)


@pytest.mark.parametrize(
    ("num_samples", "rate", "fps", "expected"),
    [
        (16_000, 16_000, Fraction(25), 25),
        (16_001, 16_000, Fraction(25), 26),
        (1, 16_000, Fraction(25), 1),
        (16_016, 16_000, Fraction(30000, 1001), 30),  # 1.001 s at 30000/1001 are 30 frames exactly
        (16_017, 16_000, Fraction(30000, 1001), 31),
        (9_600_000, 16_000, Fraction(25), 15_000),
    ],
)
def test_num_frames_cover_the_sound_exactly(num_samples, rate, fps, expected):
    assert num_frames_for(num_samples, rate, fps) == expected


def test_speech_length():
    speech = Speech(torch.zeros(8_000))
    assert speech.seconds == 0.5 and speech.num_frames(Fraction(25)) == 13


@pytest.mark.parametrize(
    ("waveform", "kind", "said"),
    [
        (torch.zeros(0), InputError, "0 samples"),
        (torch.zeros(1, 100), ShapeError, r"\(1, 100\)"),
        (torch.zeros(100, dtype=torch.float64), ShapeError, "float64"),
        (torch.full((100,), torch.nan), InputError, "100 values of 100"),
    ],
)
def test_speech_rejects(waveform, kind, said):
    with pytest.raises(kind, match=said):
        Speech(waveform, "a.wav")


def test_track_converts_between_pixels_and_the_unit_square():
    points_px = torch.tensor([50.0, 25.0, -10.0]).expand(2, 478, 3)
    made = LandmarkTrack.from_px(points_px, 200, 100, Fraction(25))
    assert torch.allclose(made.points[0, 0], torch.tensor([0.25, 0.25, -0.05]))  # z is on x's scale
    assert torch.allclose(made.points_px, points_px)
    assert made.valid.all() and made.seconds == 0.08


def test_track_slice_keeps_the_rest():
    points = torch.arange(5.0)[:, None, None].expand(5, 478, 3)
    part = track(5, points=points).slice(1, 3)
    assert len(part) == 2 and part.points[0, 0, 0] == 1 and (part.width, part.fps) == (200, Fraction(25))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": torch.zeros(2, 468, 3)}, "478"),
        ({"points": torch.zeros(2, 478, 3, dtype=torch.float64)}, "float64"),
        ({"points": torch.full((2, 478, 3), torch.inf)}, "NaN or infinite"),
        ({"points": torch.zeros(0, 478, 3), "valid": torch.ones(0, dtype=torch.bool)}, "0 landmark frames"),
        ({"valid": torch.ones(3, dtype=torch.bool)}, "3 valid flags"),
        ({"valid": torch.ones(2)}, "bool"),
        ({"fps": 0}, "fps"),
        ({"width": 0}, "width"),
        ({"height": float("nan")}, "height"),
    ],
)
def test_track_rejects(changes, said):
    with pytest.raises(InputError, match=said):
        track(**changes)


def test_track_survives_a_round_trip():
    made = track(3, fps=29.97, valid=torch.tensor([True, False, True]))
    tensors, metadata = made.to_record()
    assert metadata == {"kind": "LandmarkTrack", "fps": "30000/1001", "width": "200", "height": "100"}
    found = LandmarkTrack.from_record(tensors, metadata)
    assert torch.equal(found.points, made.points) and found.valid.tolist() == [True, False, True]
    assert found.fps == Fraction(30000, 1001)


def test_track_from_record_names_what_is_missing():
    tensors, metadata = track().to_record()
    with pytest.raises(InputError, match="points, fps"):
        LandmarkTrack.from_record({"valid": tensors["valid"]}, {"width": "2", "height": "2"})
    with pytest.raises(InputError, match="HeadPose"):
        LandmarkTrack.from_record(tensors, metadata | {"kind": "HeadPose"})


def test_head_pose_and_mouth_curves_reject_uneven_parts():
    with pytest.raises(ShapeError, match="translation"):
        HeadPose(torch.zeros(3, 3), torch.zeros(2, 3), torch.ones(3))
    with pytest.raises(ShapeError, match="scale"):
        HeadPose(torch.zeros(3, 3), torch.zeros(3, 3), torch.ones(4))
    with pytest.raises(ShapeError, match="rounding"):
        MouthCurves(*(torch.zeros(2 if name == "rounding" else 3) for name in MOUTH_PARAMETERS))


@pytest.mark.parametrize(
    ("name", "value"),
    [("fps", 0), ("mouth_gain", 2.1), ("head_motion", -0.1), ("blink_rate", 41), ("smoothing", 2), ("seed", -1)],
)
def test_motion_options_reject(name, value):
    with pytest.raises(InputError, match=name):
        MotionOptions(**{name: value})


def test_portrait_wants_landmarks_of_its_own_size():
    picture = torch.zeros(100, 200, 3, dtype=torch.uint8)
    assert Portrait(picture, track(1)).source == "portrait"
    with pytest.raises(InputError, match="200×100, got 1 frames at 100×100"):
        Portrait(picture, track(1, width=100))
    with pytest.raises(InputError, match="2 frames"):
        Portrait(picture, track(2))


def test_check_picture_rejects_other_layouts():
    for picture in (
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 3),
        torch.zeros(8, 8, dtype=torch.uint8),
    ):
        with pytest.raises(ShapeError, match="a frame"):
            check_picture(picture, "a frame")


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        track().width = 3
