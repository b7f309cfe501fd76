"""`render` with keypoint tracks: drawn by a renderer of their family, refused by all others, resampled, carried."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
import torch
from reading_model import OpeningMesh, block_picture

from portraittalk_core.cli.main import main
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.types import KEYPOINT_LAYOUTS, KeypointTrack

LP, FV = "liveportrait-21", "face-vid2vid-15"


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A portrait, tracks of both families, and LivePortrait's files with random weights."""
    folder = tmp_path_factory.mktemp("desk")
    save_picture(block_picture(0.1), folder / "me.png")
    write_random_files(folder / "networks", LP)
    for layout, count in KEYPOINT_LAYOUTS.items():
        draw = torch.Generator().manual_seed(0)
        track = KeypointTrack(
            0.05 * torch.randn(5, count, 3, generator=draw), torch.zeros(5, 3), torch.zeros(5, 3), torch.ones(5),
            torch.ones(5, dtype=torch.bool), Fraction(25), layout,
        )  # fmt: skip
        save_record(track, folder / f"{layout}.safetensors")
    return folder


def run(desk, monkeypatch, track: str, *more: str) -> int:
    monkeypatch.setattr("portraittalk_core.face.mesh.landmarks.open_mesh", lambda *_, **__: OpeningMesh())
    words = ["render", "--portrait", "me.png", "--track", f"{track}.safetensors", "--out", "out.mp4"]
    return main([str(desk / word) if "." in word else word for word in words] + list(more))


def num_frames(path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def test_a_renderer_of_the_family_draws_them(desk, monkeypatch, capsys):
    chosen = ("--renderer", "liveportrait", "--keypoints-folder", str(desk / "networks"))
    assert run(desk, monkeypatch, LP, *chosen) == 0
    assert num_frames(desk / "out.mp4") == 5
    assert run(desk, monkeypatch, LP, *chosen, "--fps", "50", "--relative") == 0
    assert "The track's 5 frames at 25 fps became 10 at 50." in capsys.readouterr().out
    assert num_frames(desk / "out.mp4") == 10


@pytest.mark.parametrize(
    ("track", "more", "message"),
    [
        (LP, (), "the motion is keypoints (liveportrait-21), which this renderer cannot draw; take the renderer livep"),
        (FV, ("--renderer", "liveportrait"), "of the layout face-vid2vid-15, but liveportrait-21 is needed"),
        (LP, ("--renderer", "liveportrait", "--transfer", "relative"), "with its option --relative"),
    ],
)
def test_what_does_not_fit_is_told(desk, monkeypatch, capsys, track, more, message):
    more += ("--keypoints-folder", str(desk / "networks")) if more else ()
    assert run(desk, monkeypatch, track, *more) == 2
    assert message in capsys.readouterr().err
