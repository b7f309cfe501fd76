"""Crop Face and Paste Face inside a real ComfyUI."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.comfy


def graph(portrait: str, painted: list, **paste) -> dict:
    """Portrait → Crop Face → (whatever paints) → Paste Face → Save Image."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "2": {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"frames": ["1", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"},
        },
        "3": {
            "class_type": "PortraitTalkCropFace",
            "inputs": {"image": ["1", 0], "landmarks": ["2", 0], "margin": 0.4, "size": 512},
        },
        "4": {"class_type": "ImageInvert", "inputs": {"image": ["3", 0]}},
        "5": {
            "class_type": "PortraitTalkPasteFace",
            "inputs": {"frames": painted, "target": ["1", 0], "landmarks": ["2", 0], "margin": 0.4, "feather": 0.15,
                       "match_colour": 0.0, **paste},
        },
        "8": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "paste/crop"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "paste/t"}},
    }  # fmt: skip


def output_picture(comfy, prompt: dict, node: str) -> np.ndarray:
    run = comfy.run(prompt)
    assert run.status == "success" and node in run.outputs, run
    return np.asarray(Image.open(comfy.output(run.outputs[node]["images"][0]))).astype(int)


@pytest.fixture(scope="module")
def original(comfy, portrait_name) -> np.ndarray:
    return np.asarray(Image.open(comfy.base / "input" / portrait_name)).astype(int)


def test_a_crop_pasted_back_unpainted_changes_nothing(comfy, portrait_name, original):
    assert np.array_equal(output_picture(comfy, graph(portrait_name, ["3", 0]), "9"), original)


def test_a_painted_face_is_pasted_and_the_rest_stays(comfy, portrait_name, original):
    pasted = output_picture(comfy, graph(portrait_name, ["4", 0]), "9")
    assert np.abs(pasted[110, 215] - original[110, 215]).mean() > 60  # her cheek
    assert np.array_equal(pasted[400:], original[400:]) and np.array_equal(pasted[:, :60], original[:, :60])


def test_crops_are_as_large_as_asked_for(comfy, portrait_name):
    assert output_picture(comfy, graph(portrait_name, ["3", 0]), "8").shape == (512, 512, 3)
