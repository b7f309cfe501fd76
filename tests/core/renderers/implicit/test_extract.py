"""Extraction of keypoints: pictures, films with gaps and cuts, crops, the pipeline and the command."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from reading_model import OpeningMesh, ReadingModel, block_picture

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.track_file import load_motion
from portraittalk_core.renderers.implicit.crop import crop_of
from portraittalk_core.renderers.implicit.extract import (
    fixed_crop,
    keypoint_track_of_film,
    keypoints_of_picture,
    track_of,
)
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.types import KeypointTrack, LandmarkTrack

SIDE = 96
RULE = ReadingModel().crop


def face(middle=(0.5, 0.5), size: float = 12.0, roll_deg: float = 0.0) -> torch.Tensor:
    """(478, 3) pixels of an upright face in a picture of SIDE pixels."""
    points = size * (canonical_face() - canonical_face().mean(0))
    sin, cos = math.sin(math.radians(roll_deg)), math.cos(math.radians(roll_deg))
    points[:, :2] = points[:, :2] @ torch.tensor([[cos, sin], [-sin, cos]])
    points[:, :2] += SIDE * torch.tensor(middle)
    return points


def film(valid: list[bool], seed: int = 0, **moves) -> tuple[list[torch.Tensor], LandmarkTrack]:
    """Random pictures and the landmarks of a face in them that moves a little."""
    draw = torch.Generator().manual_seed(seed)
    pictures = [torch.randint(0, 256, (SIDE, SIDE, 3), generator=draw, dtype=torch.uint8) for _ in valid]
    points = torch.stack([face((0.5 + 0.01 * math.sin(t), 0.5), **moves) for t in range(len(valid))])
    return pictures, LandmarkTrack.from_px(points, SIDE, SIDE, Fraction(25), torch.tensor(valid))


def test_keypoints_of_a_picture_are_read_in_its_crop():
    model, (pictures, landmarks) = ReadingModel(), film([True])
    faces, crop = keypoints_of_picture(model, pictures[0], landmarks.points_px[0])
    expected = crop_of(landmarks.points_px[0], model.crop, model.input_size)
    torch.testing.assert_close(crop.matrix, expected.matrix)
    torch.testing.assert_close(faces.expression, model.expression(expected.take(pictures[0])))
    track = track_of(faces, model.layout, Fraction(30))
    assert isinstance(track, KeypointTrack) and len(track) == 1 and track.fps == 30 and track.valid.all()


@pytest.mark.parametrize("layout", ["liveportrait-21", "face-vid2vid-15"])
@pytest.mark.parametrize("crop", ["fixed", "follow"])
def test_a_film_is_read_frame_by_frame_in_batches(layout, crop):
    model, (pictures, landmarks) = ReadingModel(layout), film([True] * 7)
    done = []
    track = keypoint_track_of_film(
        model, iter(pictures), landmarks, crop=crop, batch=3, on_progress=lambda n, of: done.append((n, of))
    )
    assert (len(track), track.layout, track.fps) == (7, layout, landmarks.fps) and track.valid.all()
    assert model.batches == [3, 3, 1] and done == [(n, 7) for n in range(1, 8)]
    still = fixed_crop(landmarks.points_px[..., :2], model.crop, model.input_size)
    for number, picture in enumerate(pictures):
        square = still
        if crop == "follow":  # face-vid2vid's own rule has one crop for a scene, that of its first face
            at = number if model.crop.upright else 0
            square = crop_of(landmarks.points_px[at], model.crop, model.input_size)
        torch.testing.assert_close(track.expression[number], model.expression(square.take(picture))[0])


def test_frames_without_a_face_are_held_or_interpolated():
    valid = [False, True, True, False, False, False, True, False]
    pictures, landmarks = film(valid)
    held = keypoint_track_of_film(ReadingModel(), pictures, landmarks)
    assert held.valid.tolist() == valid
    for at, of in enumerate([1, 1, 2, 2, 2, 2, 6, 6]):
        assert torch.equal(held.expression[at], held.expression[of])
    between = keypoint_track_of_film(ReadingModel(), pictures, landmarks, on_missing="interpolate")
    for at, share in enumerate([0, 0.25, 0.5, 0.75, 1]):
        expected = torch.lerp(held.expression[2], held.expression[6], share)
        torch.testing.assert_close(between.expression[2 + at], expected)
    assert torch.equal(between.expression[7], held.expression[6])
    assert torch.equal(between.expression[0], held.expression[1]) and between.valid.tolist() == valid


def test_pictures_without_a_face_are_not_looked_at():
    pictures, landmarks = film([True, False, True])
    pictures[1] = None  # would fail if it were
    track = keypoint_track_of_film(ReadingModel(), pictures, landmarks)
    assert torch.equal(track.expression[1], track.expression[0])


def test_every_scene_has_its_own_crop():
    pictures, landmarks = film([True] * 4)
    points = landmarks.points_px.clone()
    points[2:, :, 0] += 20
    landmarks = LandmarkTrack.from_px(points, SIDE, SIDE, landmarks.fps)
    model = ReadingModel()
    track = keypoint_track_of_film(model, pictures, landmarks, scenes=torch.tensor([0, 0, 1, 1]))
    for frames in (slice(0, 2), slice(2, 4)):
        square = fixed_crop(points[frames, :, :2], model.crop, model.input_size)
        for number in range(frames.start, frames.stop):
            torch.testing.assert_close(track.expression[number], model.expression(square.take(pictures[number]))[0])


def test_no_more_than_a_batch_of_crops_is_held():
    pictures, landmarks = film([True] * 9)
    model, read = ReadingModel(), []

    def one_by_one():
        for number, picture in enumerate(pictures):
            read.append(number)
            assert number - sum(model.batches) <= 2
            yield picture

    keypoint_track_of_film(model, one_by_one(), landmarks, batch=2)
    assert read == list(range(9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": torch.zeros(3, dtype=torch.bool)}, "show no face in any frame; choose another video"),
        ({"width": 90}, "picture 0 has 96×96 pixels, its landmarks were found on 90×96"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, message):
    pictures, landmarks = film([True] * 3)
    with pytest.raises(InputError, match=message):
        keypoint_track_of_film(ReadingModel(), pictures, dataclasses.replace(landmarks, **changes))


def test_too_few_or_many_pictures_are_told():
    pictures, landmarks = film([True] * 3)
    with pytest.raises(InputError, match="there are 2 pictures and 3 frames of landmarks"):
        keypoint_track_of_film(ReadingModel(), pictures[:2], landmarks)
    with pytest.raises(InputError, match="there are 4 or more pictures and 3 frames"):
        keypoint_track_of_film(ReadingModel(), pictures * 2, landmarks)
    with pytest.raises(InputError, match="one of fixed, follow, not 'none'"):
        keypoint_track_of_film(ReadingModel(), pictures, landmarks, crop="none")
    with pytest.raises(InputError, match="one of hold, interpolate, not 'drop'"):
        keypoint_track_of_film(ReadingModel(), pictures, landmarks, on_missing="drop")


def test_progress_may_stop_the_work():
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    pictures, landmarks = film([True] * 3)
    with pytest.raises(KeyboardInterrupt):
        keypoint_track_of_film(ReadingModel(), pictures, landmarks, on_progress=stop)


def test_fixed_crop_of_a_still_face_is_that_of_its_picture():
    points = torch.stack([face()] * 3)[..., :2]
    fixed, single = fixed_crop(points, RULE, 64), crop_of(face(), RULE, 64)
    torch.testing.assert_close(fixed.matrix, single.matrix, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("roll", "kept"), [(30.0, 30.0), (-40.0, -40.0), (80.0, 0.0), (180.0, 0.0)])
def test_fixed_crop_keeps_the_tilt_of_all_but_lying_faces(roll, kept):
    points = face(roll_deg=roll)[None, :, :2]
    on_crop = fixed_crop(points, RULE, 64).points_on_crop(points)[0]
    eyes = on_crop[[362, 263]].mean(0) - on_crop[[33, 133]].mean(0)
    assert math.degrees(math.atan2(*eyes.flip(0).tolist())) == pytest.approx(kept, abs=3)


def test_fixed_crop_grows_with_the_way_of_the_head():
    still, near = fixed_crop(torch.stack([face()] * 9)[..., :2], RULE, 64), 0.02
    small = torch.stack([face((0.5 + near * math.sin(t), 0.5)) for t in range(9)])[..., :2]
    assert fixed_crop(small, RULE, 64).side_px == pytest.approx(still.side_px, rel=0.01)
    wide = torch.stack([face((0.3 + 0.05 * t, 0.5)) for t in range(9)])[..., :2]
    large = fixed_crop(wide, RULE, 64)
    assert large.side_px > 1.1 * still.side_px
    on_crop = large.points_on_crop(wide)
    assert float(on_crop.min()) > -1 and float(on_crop.max()) < 65


def test_the_command_writes_keypoints(tmp_path, write_video, monkeypatch, capsys):
    monkeypatch.setattr("portraittalk_core.face.mesh.landmarks.open_mesh", lambda *_, **__: OpeningMesh())
    write_random_files(tmp_path / "networks", "liveportrait-21")
    pictures = [block_picture(None if t == 3 else 0.2, 30 + t).numpy() for t in range(6)]
    video, out = write_video(pictures), tmp_path / "keys.safetensors"
    words = ["track", "--video", str(video), "--out", str(out)]
    assert main([*words, "--keypoints-folder", str(tmp_path / "networks"), "--on-missing", "interpolate"]) == 0
    printed = capsys.readouterr().out
    assert "No face was seen in 1 of 6 frames; their motion is filled in (interpolate)." in printed
    track = load_motion(out)
    assert isinstance(track, KeypointTrack) and track.layout == "liveportrait-21"
    assert len(track) == 6 and track.fps == 25 and track.valid.tolist() == [True] * 3 + [False] + [True] * 2
    assert np.ptp(track.expression.numpy(), axis=0).max() > 0
    assert main([*words, "--crop", "follow"]) == 2
    assert "--crop cannot be used without --keypoints-folder" in capsys.readouterr().err
    assert main([*words, "--keypoints-folder", str(tmp_path / "none")]) == 2
    assert "there is no file or folder" in capsys.readouterr().err
