"""dlib's face descriptor: numbers that dlib itself gave, where the upright face lies, damaged weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.face.identity import descriptor
from portraittalk_core.face.identity.descriptor import descriptor_network, distance, face_chip

DLIB = json.loads(Path(__file__).with_name("dlib_descriptors.json").read_text(encoding="utf-8"))["descriptors"]
OWN_PLACES = "astronaut, dlib's own places"
# of 150: dlib's five places with a quarter of the face around it
EYES_AND_NOSE = ((110.957, 46.350), (89.606, 47.897), (37.058, 46.373), (58.409, 47.906), (74.011, 87.780))


def chips() -> dict[str, torch.Tensor]:
    """The upright faces of the stored numbers, (150, 150, 3) uint8 each."""
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    y, x = np.mgrid[:150, :150]
    ramps = np.stack([(x + y) // 2, x, 255 - y], -1).astype(np.uint8)
    made = {"noise": noise, "ramps": ramps, "grey": np.full((150, 150, 3), 128, np.uint8)}
    return {name: torch.from_numpy(np.ascontiguousarray(chip)) for name, chip in made.items()}


def test_numbers_are_dlibs(astronaut):
    """Stored by dlib 20.0.1 on the same chips; half precision of the kernels is what is left."""
    given = chips() | {"astronaut": astronaut.picture[30:180, 150:300]}
    found = descriptor_network()(torch.stack(list(given.values())))
    for name, numbers in zip(given, found, strict=True):
        assert (numbers - torch.tensor(DLIB[name])).abs().max() < 1e-3, name
        assert (numbers - torch.tensor(DLIB[name])).norm() < 3e-3, name


def test_a_face_found_by_the_mesh_is_whom_dlib_finds(astronaut):
    """dlib's own detector and five landmarks lie elsewhere by a pixel or two."""
    face_px = astronaut.landmarks.points_px[0]
    found = descriptor.describe(astronaut.picture, face_px[None])
    assert found.shape == (1, 128)
    assert float(distance(found[0], torch.tensor(DLIB[OWN_PLACES]))) < 0.2
    assert float(distance(found[0], torch.tensor(DLIB["noise"]))) > descriptor.SAME_PERSON
    assert descriptor.describe(astronaut.picture, face_px[:0].reshape(0, 478, 3)).shape == (0, 128)


@pytest.mark.parametrize("scale", [1.3, 4.7], ids=["about its size", "averaged first"])
def test_eyes_and_nose_lie_where_dlib_has_them(scale):
    """Five coloured dots on a turned face; each comes to lie at its place in the chip."""
    angle, shift = 0.3, torch.tensor([260.0, 340.0])
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    places = (torch.tensor(EYES_AND_NOSE) - 75) @ (scale * turn).T + shift * scale
    side = int(600 * scale)
    picture = torch.zeros(side, side, 3, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for at in places:
        picture[(x - at[0]) ** 2 + (y - at[1]) ** 2 < (4 * scale) ** 2] = 255
    face_px = torch.zeros(478, 3)
    face_px[list(descriptor.POINTS), :2] = places
    chip = face_chip(picture, face_px)[..., 0].float()
    y, x = torch.meshgrid(torch.arange(150.0), torch.arange(150.0), indexing="ij")
    for u, v in EYES_AND_NOSE:
        near = chip * ((x - u) ** 2 + (y - v) ** 2 < 64)
        assert float((near * x).sum() / near.sum()) == pytest.approx(u, abs=0.25)
        assert float((near * y).sum() / near.sum()) == pytest.approx(v, abs=0.25)


def test_landmarks_that_are_no_face_are_refused():
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match="all in one place"):
        face_chip(picture, torch.ones(478, 3))
    with pytest.raises(InputError, match="NaN|finite"):
        face_chip(picture, torch.full((478, 3), torch.nan))
    with pytest.raises(ShapeError):
        face_chip(picture, torch.ones(478))
    with pytest.raises(ShapeError, match="landmarks"):
        face_chip(picture, torch.ones(68, 2))
    far = torch.randn(478, 3, generator=torch.Generator().manual_seed(0)) + 5000
    assert int(face_chip(picture, far).sum()) == 0, "a face outside the picture is black"


def test_weights_that_are_damaged_or_absent_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(descriptor, "FILE", tmp_path / "face_descriptor.safetensors")
    with pytest.raises(MissingDependency, match="install this package again"):
        descriptor_network.__wrapped__()
    (tmp_path / "face_descriptor.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(InputError, match="damaged"):
        descriptor_network.__wrapped__()


def test_weights_say_where_they_come_from():
    from safetensors import safe_open

    with safe_open(descriptor.FILE, "pt") as file:
        about = json.loads(file.metadata()["portraittalk"])
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no dictionary
    assert "CC0" in about["licence"] and len(about["source_sha256"]) == 64
    # of dlib's list of layers: the stem, six blocks without a change of width, three that double it, and so on
    kernels = 3 * 32 * 49 + 9 * (6 * 32 * 32 + 32 * 64 + 7 * 64 * 64 + 64 * 128 + 5 * 128 * 128)
    kernels += 9 * (128 * 256 + 5 * 256 * 256 + 2 * 256 * 256)
    biases = 32 * 7 + 64 * 8 + 128 * 6 + 256 * 8
    assert count == kernels + biases + 256 * 128
