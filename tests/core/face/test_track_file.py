from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.errors import MediaError
from portraittalk_core.face.track_file import load_track

META = {"kind": "LandmarkTrack", "fps": "25/1", "width": "640", "height": "480"}


def written(path, points, valid=None):
    valid = torch.ones(len(points), dtype=torch.bool) if valid is None else valid
    save_file({"points": points, "valid": valid}, path, META)
    return path


@pytest.fixture
def points():
    return torch.rand(7, 478, 3, generator=torch.Generator().manual_seed(0))


def test_a_whole_track_comes_as_it_was_written(tmp_path, points, caplog):
    track = load_track(written(tmp_path / "t.safetensors", points))
    assert torch.equal(track.points, points) and track.valid.all() and track.fps == Fraction(25)
    assert not caplog.records


@pytest.mark.parametrize("how", ["nan", "zero"])
def test_frames_without_a_face_are_interpolated_and_held_at_the_ends(tmp_path, points, caplog, how):
    lost, seen = [0, 3, 4, 6], [1, 2, 5]
    gaps, valid = points.clone(), torch.ones(7, dtype=torch.bool)
    gaps[lost] = torch.nan if how == "nan" else 0.0
    valid[lost] = how == "nan"
    track = load_track(written(tmp_path / "t.safetensors", gaps, valid))
    flat = points[seen].flatten(1).numpy()
    expected = np.stack([np.interp(range(7), seen, column) for column in flat.T], 1)
    assert np.allclose(track.points.flatten(1).numpy(), expected, atol=1e-6)
    assert track.valid.tolist() == [frame in seen for frame in range(7)]
    assert "4 of the track's 7 frames hold no face" in caplog.text


def test_one_number_that_is_none_loses_its_frame_only(tmp_path, points):
    points[2, 100, 1] = torch.inf
    assert load_track(written(tmp_path / "t.safetensors", points)).valid.tolist() == [True] * 2 + [False] + [True] * 4


def test_a_track_without_any_face_is_refused(tmp_path, points):
    with pytest.raises(MediaError, match="cannot be used as a LandmarkTrack: none of its 7 frames holds a face"):
        load_track(written(tmp_path / "t.safetensors", points * torch.nan))


def test_what_is_no_track_is_told_as_before(tmp_path, points):
    with pytest.raises(MediaError, match="cannot be used as a LandmarkTrack"):
        load_track(written(tmp_path / "t.safetensors", points[:, :400].contiguous()))
    save_file({"points": points}, tmp_path / "half.safetensors", META)
    with pytest.raises(MediaError, match="needs valid"):
        load_track(tmp_path / "half.safetensors")


@pytest.mark.parametrize("size", [(0, 0), (1, 0), (1e-6, 1)])
def test_frames_whose_points_lie_in_one_point_or_on_a_line_hold_no_face(tmp_path, points, size):
    flat = points.clone()
    flat[3] = 0.5 + flat[3] * torch.tensor([*size, 1.0])
    track = load_track(written(tmp_path / "t.safetensors", flat))
    assert track.valid.tolist() == [True] * 3 + [False] + [True] * 3
    torch.testing.assert_close(track.points[3], (points[2] + points[4]) / 2)
    with pytest.raises(MediaError, match="none of its 7 frames holds a face"):
        load_track(written(tmp_path / "t.safetensors", points * torch.tensor([*size, 1.0])))


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"width": "1e309"}, "width must be a whole number"),
        ({"width": "9" * 5000}, "width must be a whole number"),
        ({"height": "-1"}, "height must lie between"),
        ({"fps": "1e309"}, "fps must be a number"),
        ({"fps": "nan"}, "fps must be a number"),
        ({"fps": "1/0"}, "fps must be a number"),
    ],
)
def test_numbers_of_the_file_that_are_none_are_told(tmp_path, points, meta, said):
    save_file({"points": points, "valid": torch.ones(7, dtype=torch.bool)}, tmp_path / "t.safetensors", META | meta)
    with pytest.raises(MediaError, match=said):
        load_track(tmp_path / "t.safetensors")


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.uint8])
def test_flags_that_are_no_bools_are_told(tmp_path, points, kind):
    with pytest.raises(MediaError, match="bool flags"):
        load_track(written(tmp_path / "t.safetensors", points, torch.ones(7, dtype=kind)))


def test_points_far_from_every_picture_are_told(tmp_path, points):
    with pytest.raises(MediaError, match="within 1000 pictures"):
        load_track(written(tmp_path / "t.safetensors", points * 1e30))
