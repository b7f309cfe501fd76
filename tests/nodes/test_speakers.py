"""What the Several Speakers node does around the core; no ComfyUI is needed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from comfy_stub import PACK, nodes_of


@pytest.fixture(scope="module")
def pack():
    with nodes_of(Path(__file__).parents[2]):
        yield (
            importlib.import_module(f"{PACK}.nodes.together"),
            importlib.import_module(f"{PACK}.nodes.bindings.together"),
        )


@pytest.mark.parametrize(
    "inputs",
    [
        {"voices.voice0": "a", "voices.voice2": "b", "seed": 3},  # as older ComfyUI gives them
        {"voices": {"voice0": "a", "voice2": "b"}, "seed": 3},
    ],
)
def test_voices_of_older_and_newer_comfyui_are_the_same(pack, inputs):
    assert pack[0]._pop_grown(inputs, "voices", "voice") == ["a", None, "b", None, None]
    assert inputs == {"seed": 3}


def test_whose_each_voice_is(pack):
    numbers_of, nowhere = pack[1].numbers_of, [None] * 3
    assert numbers_of(" ", ["a", None, "b"], nowhere) == {0: 0, 2: 2}
    assert numbers_of("3; 1", ["a", None, "b"], nowhere) == {0: 3, 2: 1}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("", [None], [None]), "nobody is to speak: connect a sound to voices"),
        (("", ["a", None], [None, "mask"]), "faces_at 1 says where a face is, and voice 1 is not connected"),
        (("left, 1", ["a", "b"], [None] * 2), "faces must be numbers of faces from 0, such as 0, 2, or empty, not"),
        (("0, " + "9" * 9999, ["a", "b"], [None] * 2), "faces must be numbers of faces"),
        (("1", ["a", "b"], [None] * 2), "for each of the 2 voices"),
    ],
)
def test_voices_without_a_face_are_told(pack, given, words):
    with pytest.raises(ValueError, match=words):
        pack[1].numbers_of(*given)
