"""Records: what is saved comes back the same; anything else is refused by name."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraittalk_core.errors import MediaError, OutputError
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.types import HeadPose, LandmarkTrack

GOOD = {"fps": "25/1", "width": "64", "height": "48"}


def track(num_frames: int = 3) -> LandmarkTrack:
    points = torch.randn(num_frames, 478, 3, generator=torch.Generator().manual_seed(0))
    return LandmarkTrack(points, torch.arange(num_frames) % 2 == 0, Fraction(30000, 1001), 640, 480)


def test_track_comes_back_the_same(tmp_path):
    made = track()
    found = load_record(LandmarkTrack, save_record(made, tmp_path / "t.safetensors"))
    assert torch.equal(found.points, made.points) and torch.equal(found.valid, made.valid)
    assert (found.fps, found.width, found.height) == (made.fps, 640, 480)
    assert os.listdir(tmp_path) == ["t.safetensors"]


def test_a_slice_is_saved_alone(tmp_path):
    save_record(track(500).slice(2, 4), tmp_path / "t.safetensors")
    assert load_file(tmp_path / "t.safetensors")["points"].shape == (2, 478, 3)
    assert (tmp_path / "t.safetensors").stat().st_size < 2 * 478 * 3 * 4 + 2000


def test_head_pose_comes_back_the_same(tmp_path):
    made = HeadPose(torch.randn(4, 3), torch.randn(4, 3), torch.rand(4))
    found = load_record(HeadPose, save_record(made, tmp_path / "h.safetensors"))
    assert torch.equal(found.angles_deg, made.angles_deg) and torch.equal(found.scale, made.scale)


def test_load_record_takes_a_file_without_kind(tmp_path):
    tensors = {"points": torch.zeros(2, 478, 3), "valid": torch.ones(2, dtype=torch.bool)}
    save_file(tensors, tmp_path / "t.safetensors", GOOD)
    assert len(load_record(LandmarkTrack, tmp_path / "t.safetensors")) == 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_load_record_rejects_truncated(share, tmp_path, cut_file):
    path = cut_file(save_record(track(), tmp_path / "t.safetensors"), share)
    with pytest.raises(MediaError, match=r"t\.safetensors is (empty|not a readable)"):
        load_record(LandmarkTrack, path)


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({"points": torch.zeros(2, 478, 3)}, GOOD, "valid"),
        ({}, {"fps": "25/0"}, "fps"),
        ({}, {"width": "wide"}, "wide"),
        ({}, {"kind": "HeadPose"}, "HeadPose"),
        ({"points": torch.zeros(2, 468, 3)}, {}, "468"),
        ({"points": torch.full((2, 478, 3), torch.nan)}, {}, "2868 values"),
        ({"surprise": torch.zeros(1)}, {}, "surprise"),
    ],
    ids=["part-missing", "fps", "width", "kind", "468-points", "nan", "unknown-part"],
)
def test_load_record_rejects(tensors, metadata, said, tmp_path):
    if said != "valid":
        tensors = {"points": torch.zeros(2, 478, 3), "valid": torch.ones(2, dtype=torch.bool)} | tensors
    save_file(tensors, tmp_path / "t.safetensors", GOOD | metadata)
    with pytest.raises(MediaError, match=rf"t\.safetensors cannot be used as a LandmarkTrack.*{said}"):
        load_record(LandmarkTrack, tmp_path / "t.safetensors")


def test_load_record_rejects_another_kind_of_record(tmp_path):
    path = save_record(HeadPose(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2)), tmp_path / "h.safetensors")
    with pytest.raises(MediaError, match=r"h\.safetensors.*HeadPose"):
        load_record(LandmarkTrack, path)
    with pytest.raises(MediaError, match=r"t\.safetensors.*LandmarkTrack"):
        load_record(HeadPose, save_record(track(), tmp_path / "t.safetensors"))


def test_records_reject_places(tmp_path):
    with pytest.raises(MediaError, match="does not exist"):
        load_record(LandmarkTrack, tmp_path / "none.safetensors")
    with pytest.raises(MediaError, match="is a folder"):
        load_record(LandmarkTrack, tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        save_record(track(), tmp_path / "none" / "t.safetensors")
