"""The second hub record: checks, round trip through a file, errors of the wrong kind or layout, and its plot."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError, MediaError, ShapeError
from portraittalk_core.face.track_file import load_motion, load_track
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.plots.curves import COLOURS
from portraittalk_core.plots.keypoints import expression_curves, plot_keypoints
from portraittalk_core.types import KEYPOINT_LAYOUTS, HeadPose, KeypointTrack, LandmarkTrack, Speech


def keypoints(num_frames: int = 6, layout: str = "liveportrait-21", **changes) -> KeypointTrack:
    draw = torch.Generator().manual_seed(0)
    given = {
        "expression": 0.1 * torch.randn(num_frames, KEYPOINT_LAYOUTS.get(layout, 21), 3, generator=draw),
        "rotation_deg": 20 * torch.randn(num_frames, 3, generator=draw).clamp(-2, 2),
        "translation": 0.1 * torch.randn(num_frames, 3, generator=draw),
        "scale": 1 + 0.1 * torch.rand(num_frames, generator=draw),
        "valid": torch.tensor([True] * (num_frames - 1) + [False]),
        "fps": Fraction(25),
        "layout": layout,
    }
    return KeypointTrack(**(given | changes))


def same(first: KeypointTrack, second: KeypointTrack) -> bool:
    one, two = (track.to_record() for track in (first, second))
    return one[1] == two[1] and all(torch.equal(one[0][name], two[0][name]) for name in one[0])


def test_layouts_are_those_of_the_two_public_renderers():
    assert KEYPOINT_LAYOUTS == {"face-vid2vid-15": 15, "liveportrait-21": 21}


def test_length_and_slice():
    track = keypoints(fps="30000/1001")
    assert (len(track), track.num_keypoints) == (6, 21) and track.fps == Fraction(30000, 1001)
    assert track.seconds == pytest.approx(6 * 1001 / 30000)
    part = track.slice(2, 5)
    assert len(part) == 3 and part.layout == track.layout and part.fps == track.fps
    for name in ("expression", "rotation_deg", "translation", "scale", "valid"):
        assert torch.equal(getattr(part, name), getattr(track, name)[2:5])


def test_it_is_frozen_and_edited_by_replacing():
    track = keypoints()
    with pytest.raises(dataclasses.FrozenInstanceError):
        track.scale = torch.ones(6)
    assert torch.equal(dataclasses.replace(track, scale=torch.ones(6)).scale, torch.ones(6))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"layout": "liveportrait-203"}, InputError, "one of face-vid2vid-15, liveportrait-21, not 'live"),
        ({"expression": torch.zeros(6, 15, 3)}, ShapeError, r"liveportrait-21 track must have shape \(T, 21, 3\)"),
        ({"expression": torch.zeros(0, 21, 3)}, ShapeError, "at least one frame"),
        ({"expression": torch.zeros(6, 21, 3, dtype=torch.float64)}, ShapeError, "float32, not torch.float64"),
        ({"expression": torch.full((6, 21, 3), torch.nan)}, InputError, "378 values of 378 that are NaN"),
        ({"rotation_deg": torch.zeros(5, 3)}, ShapeError, r"rotation .* shape \(6, 3\), but has \(5, 3\)"),
        ({"rotation_deg": torch.full((6, 3), -181.0)}, InputError, "between 0 and 180, but is 181"),
        ({"translation": torch.zeros(6, 2)}, ShapeError, "translation"),
        ({"scale": torch.zeros(6, 1)}, ShapeError, "scale"),
        ({"scale": torch.tensor([1, 1, 1, 1, 1, -0.5])}, InputError, "above 0, but falls to -0.5"),
        ({"valid": torch.ones(6)}, ShapeError, "bool, not torch.float32"),
        ({"valid": torch.ones(5, dtype=torch.bool)}, ShapeError, "valid flags"),
        ({"fps": "fast"}, InputError, "fps must be a number"),
    ],
)  # fmt: skip
def test_what_it_rejects(changes, kind, said):
    with pytest.raises(kind, match=said):
        keypoints(**changes)


@pytest.mark.parametrize("layout", KEYPOINT_LAYOUTS)
def test_it_survives_a_file(layout, tmp_path):
    track = keypoints(layout=layout, fps=29.97)
    path = save_record(track, tmp_path / "a.safetensors")
    assert same(load_record(KeypointTrack, path), track) and same(load_motion(path), track)
    with safe_open(str(path), framework="np") as file:  # what another program sees
        assert file.metadata() == {"kind": "KeypointTrack", "fps": "30000/1001", "layout": layout}
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {"expression": [6, KEYPOINT_LAYOUTS[layout], 3], "rotation_deg": [6, 3], "translation": [6, 3],
                      "scale": [6], "valid": [6]}  # fmt: skip


def test_load_motion_takes_landmarks_too(tmp_path):
    track = LandmarkTrack(torch.rand(3, 478, 3), torch.ones(3, dtype=torch.bool), Fraction(25), 64, 64)
    found = load_motion(save_record(track, tmp_path / "a.safetensors"))
    assert isinstance(found, LandmarkTrack) and torch.equal(found.points, track.points)


def test_a_file_of_the_wrong_kind_is_told_with_both_kinds(tmp_path):
    keys = save_record(keypoints(), tmp_path / "keys.safetensors")
    with pytest.raises(MediaError, match="keys.* holds a KeypointTrack, not a LandmarkTrack; give a"):
        load_track(keys)
    pose = HeadPose(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2))
    path = save_record(pose, tmp_path / "pose.safetensors")
    with pytest.raises(MediaError, match="holds a HeadPose, which is no track; give a track of landmarks or keypoints"):
        load_motion(path)
    with pytest.raises(MediaError, match="not a KeypointTrack"):
        load_record(KeypointTrack, path)


def test_a_file_that_lacks_something_or_is_damaged_is_told(tmp_path):
    tensors, metadata = keypoints().to_record()
    save_file({name: tensors[name] for name in tensors if name != "scale"}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(MediaError, match="a keypoint track needs scale, which this file lacks"):
        load_motion(tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", {"kind": "KeypointTrack", "fps": "25"})
    with pytest.raises(MediaError, match="needs layout"):
        load_motion(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(json.dumps({"no": "tensors"}).encode())
    with pytest.raises(MediaError, match="not a readable safetensors file"):
        load_motion(tmp_path / "c.safetensors")


def test_the_wrong_layout_is_told_with_both():
    track = keypoints()
    assert track.check_layout("liveportrait-21") is track
    with pytest.raises(InputError, match="liveportrait-21, but face-vid2vid-15 is needed; make the track with a"):
        track.check_layout("face-vid2vid-15")


def test_expression_curve_is_the_mean_distance_from_the_mean():
    track = keypoints()
    moved = track.expression.numpy()
    by_hand = np.linalg.norm(moved - moved.mean(0), axis=-1)
    curves = expression_curves(track)
    np.testing.assert_allclose(curves["expression, all keypoints"], by_hand.mean(1), rtol=1e-5)
    np.testing.assert_allclose(curves["lips"], by_hand[:, [6, 12, 14, 17, 19, 20]].mean(1), rtol=1e-5)
    assert list(expression_curves(keypoints(layout="face-vid2vid-15"))) == ["expression, all keypoints"]


@pytest.mark.slow
def test_plot_draws_every_curve_wave_and_unseen_frame(tmp_path):
    track = keypoints(num_frames=40)
    plain, waved = plot_keypoints(track), plot_keypoints(track, Speech(torch.sin(torch.arange(25600) * 0.05)))
    assert plain.dtype == torch.uint8 and plain.shape == waved.shape == (760, 1200, 3)
    for colour in COLOURS:
        assert count(plain, colour) > 200
    assert count(waved, "#c9d3dd") > count(plain, "#c9d3dd") + 2000
    unseen = dataclasses.replace(track, valid=torch.arange(40) < 20)
    assert count(plot_keypoints(unseen), "#fdf1b8") > count(plain, "#fdf1b8") + 3000
    assert plot_keypoints(keypoints(num_frames=1)).shape == plain.shape


def count(picture: torch.Tensor, colour: str) -> int:
    rgb = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(((picture.int() - rgb).abs().amax(-1) < 24).sum())


def test_the_command_plots_keypoints(tmp_path, capsys):
    save_record(keypoints(), tmp_path / "a.safetensors")
    words = ["plot", "--track", str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "a.png")]
    assert main(words) == 0 and "1200×760 pixels" in capsys.readouterr().out
