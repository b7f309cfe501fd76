"""Which of several faces a box or a mask means, followed through a film."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from toy_puppet import BlockMesh

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.choice import BoxChoice, MaskChoice, face_choice
from portraittalk_core.face.mesh.landmarks import find_portrait, track_faces
from portraittalk_core.face.options import FaceOptions

WIDTH, HEIGHT = 320, 160
RED, BLUE = (40, 30), (200, 50)  # left and top of two blocks that BlockMesh takes for faces


def picture(red=RED, blue=BLUE) -> torch.Tensor:
    drawn = torch.full((HEIGHT, WIDTH, 3), 30, dtype=torch.uint8)
    for place, channel in ((red, 0), (blue, 2)):
        if place is not None:
            drawn[place[1] : place[1] + 70, place[0] : place[0] + 60, channel] = 220
    return drawn


def faces() -> torch.Tensor:
    return BlockMesh().detect(picture()) * torch.tensor([WIDTH, HEIGHT, WIDTH])


@pytest.mark.parametrize(
    ("box", "index"),
    [
        ((30, 20, 110, 110), 0),
        ((190, 40, 270, 130), 1),
        ((110, 0, 180, 160), None),  # between them
        ((75, 0, 320, 160), 1),
    ],
)
def test_a_box_means_the_face_that_it_holds(box, index):
    assert BoxChoice(tuple(map(float, box))).index(faces(), WIDTH, HEIGHT) == index


def test_a_mask_means_the_face_that_it_covers():
    mask = torch.zeros(40, 80)  # of the picture at a quarter of its size
    mask[12:30, 50:65] = 1
    assert MaskChoice(mask).index(faces(), WIDTH, HEIGHT) == 1
    assert MaskChoice(mask.flip(1)).index(faces(), WIDTH, HEIGHT) == 0
    assert MaskChoice(torch.zeros(40, 80)).index(faces(), WIDTH, HEIGHT) is None


def test_texts_are_numbers_boxes_and_masks(tmp_path):
    white = np.zeros((HEIGHT, WIDTH), np.uint8)
    white[:, :160] = 255
    Image.fromarray(white).save(tmp_path / "m.png")
    assert face_choice("2") == 2 and face_choice("1, 2,30.5,4") == BoxChoice((1.0, 2.0, 30.5, 4.0))
    mask = face_choice(str(tmp_path / "m.png"))
    assert mask.index(faces(), WIDTH, HEIGHT) == 0 and str(mask) == "under m.png"
    for text, said in (
        ("left", "a face is given as a number"),
        ("1,2,3", "a face is given as a number"),
        ("30,2,3,4", "a box around a face is left,top,right,bottom"),
        ("nan,2,3,4", "a face is given as a number"),
        ("1001", "between 0 and 1000"),
    ):
        with pytest.raises(InputError, match=said):
            face_choice(text)
    assert FaceOptions(1).which == 1 and FaceOptions(1, face="0,0,9,9").which == BoxChoice((0.0, 0.0, 9.0, 9.0))


def test_the_chosen_face_is_followed_while_another_one_is_there(monkeypatch):
    from portraittalk_core.face.mesh import tracking

    monkeypatch.setattr(tracking, "refine", lambda picture, last, mesh, crops: None)  # each picture is searched
    path = [(200 - 6 * at, 50) for at in range(12)]
    film = [picture(blue=None if at == 5 else place) for at, place in enumerate(path)]
    track = track_faces(film, Fraction(25), BlockMesh(), BoxChoice((190.0, 40.0, 270.0, 130.0)))
    assert track.valid.tolist() == [at != 5 for at in range(12)]
    middles = track.points_px[:, :, 0].mean(1)
    assert all(abs(float(middles[at]) - path[at][0] - 30) < 8 for at in range(12) if at != 5)


def test_a_place_without_a_face_is_told_with_the_faces_there_are():
    with pytest.raises(NoFaceError, match=r"no face was found in the box 0,0,9,9 in portrait, which holds 2 faces"):
        find_portrait(picture(), BoxChoice((0.0, 0.0, 9.0, 9.0)), mesh=BlockMesh())
    with pytest.raises(NoFaceError, match=r"no face was found in any of the 2 frames of video \(in the box 0,0,9,9\)"):
        track_faces([picture()] * 2, Fraction(25), BlockMesh(), BoxChoice((0.0, 0.0, 9.0, 9.0)))
