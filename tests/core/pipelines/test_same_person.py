"""The person of the first scene in other scenes, where a descriptor tells faces apart."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from six_people import one_of_six
from toy_puppet import BlockMesh

from portraittalk_core.errors import MissingDependency
from portraittalk_core.face.geometry import face_box_px
from portraittalk_core.face.mesh.backends import open_mesh
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.pipelines import dub, same_person
from portraittalk_core.pipelines.same_person import FacesSeen, ScenesSeen, described_by

WIDTH, HEIGHT, FPS = 320, 160, Fraction(25)
LEFT, RIGHT = (40, 30), (200, 50)
RED, BLUE = 0, 2


class Colours:
    """A descriptor: the colour of the face's middle, of length 1."""

    def describe(self, picture: torch.Tensor, face_px: torch.Tensor) -> torch.Tensor:
        x0, y0, x1, y1 = face_box_px(face_px[None])[0].long().tolist()
        middle = picture[(y0 + y1) // 2 - 3 : (y0 + y1) // 2 + 3, (x0 + x1) // 2 - 3 : (x0 + x1) // 2 + 3]
        colour = middle.float().mean((0, 1)) - 100
        return colour / colour.norm()

    def likeness(self, one: torch.Tensor, other: torch.Tensor) -> float:
        return float(one @ other) - 0.3


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
    found = dub.read_film(film, mesh=BlockMesh(), people=Colours())
    assert found.scenes.tolist() == [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12
    assert found.track.valid.tolist() == [True] * 24 + [False] * 12 + [True] * 12
    assert found.other_person.tolist() == [False] * 24 + [True] * 12 + [False] * 12
    middles = found.track.points_px[:, :, 0].mean(1)
    for frame, left in ((5, LEFT[0]), (18, RIGHT[0]), (42, 120)):
        assert abs(float(middles[frame]) - left - 30) < 8
    assert len(found.sharpness) == 48


def test_without_a_descriptor_whoever_stands_there_is_followed(film, caplog):
    """The shape of both is the same: only a descriptor tells them apart."""
    found = dub.read_film(film, mesh=BlockMesh())
    assert "as far as its shape tells" in caplog.text
    assert abs(float(found.track.points_px[18, :, 0].mean()) - LEFT[0] - 30) < 8
    assert not found.other_person.any()


def test_a_film_of_one_person_says_by_what_the_person_was_known(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dub, "mouth_covered", lambda *_: False)
    path = tmp_path / "one.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, FPS, crf=1) as writer:
        for shot in [picture(60, red=LEFT)] * 12 + [picture(110, red=RIGHT)] * 12:
            writer.write(shot)
    assert dub.read_film(path, mesh=BlockMesh(), people=Colours()).track.valid.all()
    assert "as far as its descriptor tells, the face is the same in all scenes" in caplog.text


def test_networks_that_are_not_there_are_told(tmp_path):
    with pytest.raises(MissingDependency), described_by(tmp_path):
        pass


@pytest.fixture(scope="module")
def photographed(tmp_path_factory):
    """Anna alone; Bert where she was, and she beside him, smaller; Bert alone; Anna, mirrored and darker."""
    anna, bert = one_of_six(0, 160), one_of_six(1, 160)
    small = torch.full((160, 160, 3), 128, dtype=torch.uint8)
    small[20:148, 16:144] = one_of_six(0, 128)
    grey = torch.full((160, 160, 3), 60, dtype=torch.uint8)
    shots = [(anna, grey), (bert, small), (bert, grey + 60), ((anna.flip(1) * 0.7).to(torch.uint8), grey + 30)]
    path = tmp_path_factory.mktemp("film") / "cuts.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, FPS, crf=1) as writer:
        for left, right in shots:
            for _ in range(2):
                writer.write(torch.cat([left, right], 1))
    return path


@pytest.mark.slow
def test_dlibs_descriptor_follows_a_real_person_through_cuts(photographed):
    """Without any file: the network in this package, on faces that the mesh finds."""
    with open_mesh("torch") as mesh, described_by(None) as people:
        found = dub.read_film(photographed, mesh=mesh, people=people)
    assert found.scenes.tolist() == [0] * 2 + [1] * 2 + [2] * 2 + [3] * 2
    assert found.other_person.tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert found.track.valid.tolist() == [True] * 4 + [False] * 2 + [True] * 2
    middles = found.track.points_px[:, :, 0].mean(1)
    assert (middles[:2] < 160).all() and (middles[2:4] > 160).all() and (middles[6:] < 160).all()


def test_a_face_is_described_once_in_each_stretch_and_not_read_again(film, monkeypatch):
    """Four stretches; only those of somebody else are looked up in the film again."""
    people, described, read = Colours(), [], []
    monkeypatch.setattr(same_person, "_picture", lambda *given: read.append(given[2]) or picture_of(*given))
    monkeypatch.setattr(people, "describe", lambda *given: described.append(1) or Colours.describe(people, *given))
    dub.read_film(film, mesh=BlockMesh(), people=people)
    assert len(read) == 2 and {index // 12 for index in read} == {1, 2}
    assert len(described) == 4 + 3  # and the faces of those two pictures: two, and one


def test_a_film_without_a_cut_asks_for_no_descriptor(tmp_path, monkeypatch):
    monkeypatch.setattr(dub, "mouth_covered", lambda *_: False)  # blocks have no lips
    path = tmp_path / "one.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, FPS, crf=1) as writer:
        for _ in range(6):
            writer.write(picture(60, red=LEFT))
    found = dub.read_film(path, mesh=BlockMesh(), people=Silent())
    assert found.scenes.tolist() == [0] * 6


class Silent(Colours):
    """A descriptor that must not be asked."""

    def describe(self, picture: torch.Tensor, face_px: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nobody is to be told apart")


def picture_of(video, track, index):
    return next(same_person._pictures(video, track, index, 1))


def test_stretches_that_may_be_scenes_are_described_where_the_head_is_straightest():
    """Heads turned by the left eye's depth; the second stretch is too short, the third has no face for a while."""
    seen, shot = FacesSeen(Colours()), picture(60, red=LEFT)
    face = torch.zeros(478, 3)
    face[:, 0], face[:, 1] = torch.linspace(LEFT[0], LEFT[0] + 60, 478), torch.linspace(LEFT[1], LEFT[1] + 70, 478)
    for index in range(20):
        turned = face.clone()
        turned[[362, 263], 2] = 10.0 * abs(index % 7 - 3)
        gone = index in (12, 13)
        seen.see(index, shot, None if gone else turned, may_cut=index in (7, 9))
    assert sorted(seen.end(20)) == [3, 10]


def test_scenes_of_somebody_else_are_known_while_they_pass():
    """Red, blue where red was, red elsewhere; then a scene of a moment, and one without a face: nobody else's."""
    shots = [(60, {"red": LEFT}, 5), (110, {"blue": LEFT}, 5), (30, {"red": RIGHT}, 5), (85, {"blue": LEFT}, 2)]
    seen, mesh, size = ScenesSeen(Colours()), BlockMesh(), torch.tensor([WIDTH, HEIGHT, WIDTH])
    for ground, faces, count in [*shots, (140, {}, 5)]:
        shot = picture(ground, **faces)
        found = mesh.detect(shot) * size
        for _ in range(count):
            seen.see(shot, found[0] if len(found) else None)
    assert seen.scenes().tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 2 + [4] * 5
    assert seen.other_people().tolist() == [False] * 5 + [True] * 5 + [False] * 12
    assert not ScenesSeen(None).faces()
