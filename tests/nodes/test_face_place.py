"""The face that a mask or a box points to; no ComfyUI is needed but for the tests marked so."""

from __future__ import annotations

import importlib
import logging
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comfy_stub import PACK, nodes_of
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 400, 200
# three faces, largest first: x, y, width and height in pixels
FACES = [(200, 20, 120, 150), (20, 40, 90, 110), (340, 60, 50, 60)]


def landmarks(box: tuple[int, int, int, int]) -> torch.Tensor:
    """478 points evenly in a box, normalised."""
    x, y, width, height = box
    grid = torch.linspace(0, 1, 478)
    px = torch.stack([x + width * grid, y + height * (grid * 22 % 1)], 1)
    return torch.cat([px / torch.tensor([WIDTH, HEIGHT]), torch.zeros(478, 1)], 1)


@pytest.fixture(scope="module")
def index_at():
    with nodes_of(ROOT), pytest.MonkeyPatch.context() as patch:
        module = importlib.import_module(f"{PACK}.nodes.bindings.face_place")
        patch.setattr(module, "detect_faces", lambda picture, mesh: mesh)
        faces, picture = torch.stack([landmarks(box) for box in FACES]), torch.zeros(HEIGHT, WIDTH, 3).byte()
        yield lambda place, found=faces, size=None: module.index_at(place, picture, found, "the portrait", size)


def test_messages_of_faces_are_shown_on_the_running_node(monkeypatch, caplog):
    """One below the other, while a mesh is open; what another thread says is another node's. Notes only if wanted."""
    with nodes_of(ROOT):
        progress = importlib.import_module(f"{PACK}.nodes.bindings.progress")
        landmarks = importlib.import_module(f"{PACK}.portraittalk_core.face.mesh.landmarks")
        shown = []
        monkeypatch.setattr(landmarks, "open_mesh", lambda: nullcontext(SimpleNamespace(name="none")))
        monkeypatch.setattr(progress, "_running_node", lambda: "7")
        monkeypatch.setattr(progress, "show_text", lambda *text: shown.append(text))
        with progress.face_mesh():
            landmarks.log.warning("it holds %d faces", 2)
            other = threading.Thread(target=landmarks.log.warning, args=("another",))
            other.start()
            other.join()
            landmarks.log.info("a note")
            landmarks.log.warning("it is turned")
        landmarks.log.warning("later")
        caplog.set_level(logging.INFO, landmarks.log.name)
        with progress.face_mesh(notes=True):
            landmarks.log.info("face 0 is taken")
    assert shown == [("7", "it holds 2 faces"), ("7", "it holds 2 faces\nit is turned"), ("7", "face 0 is taken")]


def mask(x: int, y: int, width: int, height: int) -> torch.Tensor:
    shown = torch.zeros(1, HEIGHT, WIDTH)
    shown[:, y : y + height, x : x + width] = 1.0
    return shown


def box(x: float, y: float, width: float, height: float) -> dict:
    return {"x": x, "y": y, "width": width, "height": height}


def corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ("region", "expected"),
    [((200, 20, 120, 150), 0), ((10, 30, 100, 130), 1), ((330, 50, 70, 80), 2), ((0, 0, 400, 200), 0),
     ((20, 40, 90, 60), 1), ((150, 0, 250, 200), 0)],
)  # fmt: skip
@pytest.mark.parametrize(
    "kind",
    [
        "box",
        "frames of boxes",
        "corners",
        "boxes of corners",
        "mask",
        "mask of half the size",
        "bytes",
        "masks",
    ],
)
def test_the_face_most_of_which_lies_there_is_meant(index_at, kind, region, expected):
    place = {
        "box": box(*region),
        "frames of boxes": [[{**box(*region), "label": "face", "score": 0.9}, box(0, 0, 1, 1)], []],
        "corners": corners(*region),
        "boxes of corners": [[np.array(corners(*region)), np.zeros(4)], []],
        "mask": mask(*region),
        "mask of half the size": mask(*region)[:, ::2, ::2],
        "bytes": mask(*region)[0].mul(255).byte(),
        "masks": torch.cat([mask(*region), mask(*FACES[2])]),
    }[kind]
    assert index_at(place) == expected


def test_four_numbers_that_are_no_corners_are_a_place_and_a_size(index_at):
    assert [index_at([list(FACES[number])]) for number in (0, 2)] == [0, 2]


def test_a_place_on_the_picture_before_it_was_scaled_down_counts_there(index_at):
    double = (2 * HEIGHT, 2 * WIDTH)
    assert index_at(box(*(2 * number for number in FACES[2])), size=double) == 2
    assert index_at(mask(*FACES[2]), size=double) == 2


@pytest.mark.parametrize("place", [box(120, 0, 70, 200), mask(120, 0, 70, 200), mask(0, 0, 0, 0), [120, 0, 190, 200]])
def test_a_place_without_a_face_is_told_with_the_faces_places(index_at, place):
    with pytest.raises(ValueError, match=r"lies at the place that face_at gives; faces found around: \(260, 95\)"):
        index_at(place)


def test_a_picture_without_faces_is_told(index_at):
    with pytest.raises(ValueError, match="found around: none"):
        index_at(box(0, 0, 400, 200), torch.zeros(0, 478, 3))


@pytest.mark.parametrize("place", [{"x": 1}, box("left", 0, 1, 1), [[{}]], "left", [], 3.0, [1, 2, 3], ["1", 2, 3, 4]])
def test_what_is_no_place_is_told(index_at, place):
    with pytest.raises(ValueError, match="face_at must be a mask|one mask, or one for each"):
        index_at(place)


@pytest.mark.comfy
@pytest.mark.parametrize("kind", ["mask", "box", "numbers"])
def test_the_right_one_of_two_faces_moves_where_the_place_is_right(comfy, tmp_path, kind):
    from skimage.data import astronaut

    one = np.asarray(Image.fromarray(astronaut()).resize((256, 256), Image.Resampling.LANCZOS))
    Image.fromarray(np.concatenate([one, one], 1)).save(tmp_path / "two.png")
    shown = np.zeros((256, 512, 3), np.uint8)
    shown[:, 300:] = 255
    Image.fromarray(shown).save(tmp_path / "right.png")
    mask_name = comfy.put_input(tmp_path / "right.png")
    places = {
        "mask": {"class_type": "LoadImageMask", "inputs": {"image": mask_name, "channel": "red"}},
        "box": {"class_type": "GiveBox", "inputs": {"x": 300, "y": 0, "width": 200, "height": 256}},
        "numbers": {"class_type": "GiveCorners", "inputs": {"left": 300, "top": 0, "right": 500, "bottom": 256}},
    }
    motion = {"fps": 8.0, "mouth_gain": 1.0, "head_motion": 0.0, "blink_rate": 0.0, "seed": 0, "face_index": 0}
    motion |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
    wires = {"portrait": ["1", 0], "audio": ["2", 0], "face_at": ["4", 0]}
    found = {"frames": ["1", 0], "fps": 25.0, "face_index": 0, "on_missing": "error", "face_at": ["4", 0]}
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "two.png")}},
        "2": {"class_type": "GiveAudio", "inputs": {"kind": "silent"}},
        "3": {"class_type": "PortraitTalkAudioToLandmarks", "inputs": {**motion, **wires}},
        "4": places[kind],
        "5": {"class_type": "PortraitTalkLandmarksFromVideo", "inputs": found},
        "6": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["3", 0], "filename_prefix": f"right_{kind}/a"},
        },
        "7": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["5", 0], "filename_prefix": f"right_{kind}/b"},
        },
    }
    if kind == "mask":  # and once with no place given: the first face is taken
        prompt["8"] = {"class_type": "PortraitTalkAudioToLandmarks", "inputs": {**motion, **wires}}
        del prompt["8"]["inputs"]["face_at"]
        first = {"landmarks": ["8", 0], "filename_prefix": "first/a"}
        prompt["9"] = {"class_type": "PortraitTalkSaveLandmarks", "inputs": first}
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    told = {node: text.split(" of ")[0] for node, text in run.texts if "of the 2 in the portrait is taken" in text}
    assert told == {"3": "face 1"} | ({"8": "face 0"} if kind == "mask" else {})
    tracks = [load_file(path)["points"] for path in (comfy.base / "output" / f"right_{kind}").iterdir()]
    assert len(tracks) == 2
    for points in tracks:
        assert points[..., 0].min() > 0.5
