"""The person of the first scene in other scenes, where a descriptor tells faces apart."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.errors import MissingDependency
from portraittalk_core.face.geometry import face_box_px
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.pipelines import dub
from portraittalk_core.pipelines.same_person import described_by

WIDTH, HEIGHT, FPS = 320, 160, Fraction(25)
LEFT, RIGHT = (40, 30), (200, 50)
RED, BLUE = 0, 2


def colour_of(picture: torch.Tensor, face_px: torch.Tensor) -> torch.Tensor:
    """A descriptor: the colour of the face's middle, of length 1."""
    x0, y0, x1, y1 = face_box_px(face_px[None])[0].long().tolist()
    middle = picture[(y0 + y1) // 2 - 3 : (y0 + y1) // 2 + 3, (x0 + x1) // 2 - 3 : (x0 + x1) // 2 + 3]
    colour = middle.float().mean((0, 1)) - 100
    return colour / colour.norm()


def picture(ground: int, **faces: tuple[int, int]) -> torch.Tensor:
    drawn = torch.full((HEIGHT, WIDTH, 3), ground, dtype=torch.uint8)
    for name, (left, top) in faces.items():
        drawn[top : top + 70, left : left + 60] = 20
        drawn[top : top + 70, left : left + 60, {"red": RED, "blue": BLUE}[name]] = 230
    return drawn


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Red alone; blue where red was, and red elsewhere; blue alone; red alone."""
    monkeypatch.setattr(dub, "mouth_covered", lambda *_: False)  # blocks have no lips
    shots = [
        picture(60, red=LEFT),
        picture(110, blue=LEFT, red=RIGHT),
        picture(30, blue=LEFT),
        picture(85, red=(120, 40)),
    ]
    path = tmp_path / "cuts.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, FPS, crf=1) as writer:
        for shot in shots:
            for _ in range(12):
                writer.write(shot)
    return path


def test_the_person_is_found_again_where_another_one_stands_in_their_place(film):
    found = dub.read_film(film, mesh=BlockMesh(), describe=colour_of)
    assert found.scenes.tolist() == [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12
    assert found.track.valid.tolist() == [True] * 24 + [False] * 12 + [True] * 12
    assert found.other_person.tolist() == [False] * 24 + [True] * 12 + [False] * 12
    middles = found.track.points_px[:, :, 0].mean(1)
    for frame, left in ((5, LEFT[0]), (18, RIGHT[0]), (42, 120)):
        assert abs(float(middles[frame]) - left - 30) < 8
    assert len(found.sharpness) == 48


def test_without_a_descriptor_whoever_stands_there_is_followed(film):
    """The shape of both is the same: only a descriptor tells them apart."""
    found = dub.read_film(film, mesh=BlockMesh())
    assert abs(float(found.track.points_px[18, :, 0].mean()) - LEFT[0] - 30) < 8
    assert not found.other_person.any()


def test_networks_that_are_not_there_are_told(tmp_path):
    with pytest.raises(MissingDependency), described_by(tmp_path):
        pass
    with described_by(None) as describe:
        assert describe is None
