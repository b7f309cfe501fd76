"""One of two real faces, chosen by number, box or mask, and followed through cuts; what cannot be followed is told."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.face.choice import BoxChoice, MaskChoice
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.pipelines import dub
from portraittalk_core.pipelines.same_person import described_by

pytestmark = pytest.mark.slow

SIDE, LENGTH, FPS = 224, 3, Fraction(10)
FACE = 108, 92, 34, 40  # middle and half width and height of the astronaut's, pixels
RIGHT_MASK = torch.cat([torch.zeros(SIDE, SIDE), torch.ones(SIDE, SIDE)], 1)


@pytest.fixture(scope="module")
def film(tmp_path_factory, astronaut) -> Path:
    """The astronaut left of another face; the astronaut on the right; the other one alone; nobody."""
    one = np.asarray(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((SIDE, SIDE)))
    other = somebody_else(one)
    nobody = np.full_like(one, 90)
    path = tmp_path_factory.mktemp("cuts") / "cuts.mp4"
    with VideoWriter(path, 2 * SIDE, SIDE, FPS, crf=4) as writer:
        for left, right in ((one, other), (nobody, one), (other, nobody), (nobody, nobody)):
            picture = torch.from_numpy(np.concatenate([left, right], 1))
            for _ in range(LENGTH):
                writer.write(picture)
    return path


def somebody_else(picture: np.ndarray) -> np.ndarray:
    """The face with another jaw, and with mouth and eyes elsewhere; dlib's distance to it is 0.74."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    across, down = (columns - FACE[0]) / FACE[2], (rows - FACE[1]) / FACE[3]
    from_x = FACE[0] + across * FACE[2] / (1 + 0.4 * np.tanh(down))
    from_y = FACE[1] + FACE[3] * (down - 0.22 * np.sin(np.clip(down, -1, 1) * np.pi))
    return picture[from_y.clip(0, SIDE - 1).astype(int), from_x.clip(0, SIDE - 1).astype(int)]


@pytest.mark.parametrize(
    ("choice", "sides"),
    [
        (0, ["left", "right", None, None]),  # the first from left to right
        (BoxChoice((60.0, 40.0, 150.0, 140.0)), ["left", "right", None, None]),
        (MaskChoice(RIGHT_MASK), ["right", None, "left", None]),
    ],
)
def test_the_chosen_person_is_followed_and_nobody_else(film, caplog, monkeypatch, choice, sides):
    monkeypatch.setattr(dub, "mouth_covered", lambda *_: False)  # a mouth that was moved has no lips' colours
    with open_mesh() as mesh, described_by(None) as people:
        found = dub.read_film(film, mesh=mesh, face_index=choice, face_order="left_to_right", people=people)
    assert found.scenes.tolist() == [number for number in range(4) for _ in range(LENGTH)]
    middles = found.track.points_px[:, :, 0].mean(1).reshape(4, LENGTH)
    valid = found.track.valid.reshape(4, LENGTH)
    for scene, side in enumerate(sides):
        assert valid[scene].tolist() == [side is not None] * LENGTH, scene
        if side is not None:
            assert bool(((middles[scene] < SIDE) == (side == "left")).all()), scene
    assert "has cuts" in caplog.text
    assert found.num_other_person + found.num_faceless == 2 * LENGTH
