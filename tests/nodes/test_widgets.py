"""Widgets of option fields, and the order of inputs that saved graphs rely on; no ComfyUI is needed."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfy_stub import PACK, described, inputs_of, nodes_of

from portraittalk_core.options import option

ROOT = Path(__file__).parents[2]
# changed on purpose since then (a saved graph keeps its own value): node, input, what of it
CHANGED = {
    ("PortraitTalkAnimateNetControl", "features"): {"default"},
    ("PortraitTalkStylePrior", "extractor"): {"default", "options"},  # a built-in one besides none and files
    # a socket without a widget, before and since: FLOAT, and now CURVE too
    ("PortraitTalkAudioToLandmarks", "gain_curve"): {"type", "force_input", "default", "min", "max"},
}


@dataclass(frozen=True)
class Sung:
    """Options of every kind that has a widget, and of some that have none."""

    vibrato: float = option(0.5, 0, 1, "How much it trembles.", step=0.05)
    voices: int = option(2, 1, 8, "How many sing.", advanced=True)
    seed: int = option(0, 0, 99, "Another seed, another song.")
    choir: bool = option(False, help="With a choir.")
    key: str = option("minor", help="Minor or major.", choices=("minor", "major"))
    words: str = option("la", help="What is sung.")
    files: tuple[Path, ...] = option((), help="Scores.")
    limit: int | None = option(None, 1, 9, "At most so many.")
    silent: float = option(0.0, 0, 1, "Only Python can give it.", shared=False)


@pytest.fixture(scope="module")
def widgets():
    with nodes_of(ROOT):
        yield importlib.import_module(f"{PACK}.nodes.widgets")


def test_options_of_single_engines_reach_them(widgets, monkeypatch):
    engine = importlib.import_module(f"{PACK}.nodes.engine")
    monkeypatch.setattr(engine.paths, "engine_path", Path)
    given = {"joyvasa_guidance": 1.5, "joyvasa_steps": 20, "joyvasa_head_smoothing": 0.5}
    shown = {item.id for item in engine.LoadMotionEngine.define_schema().inputs}
    assert set(given) <= shown
    files = engine._files("some.pt", given)
    assert files.options == {"joyvasa": {"guidance": 1.5, "steps": 20, "head_smoothing": 0.5}}
    assert engine._files({"engine": "some.pt", **given}, {}).options == files.options  # newer ComfyUI
    assert engine._files("some.pt", {}).options == {}  # of a saved graph without them


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vibrato", {"type": "Float", "default": 0.5, "min": 0, "max": 1, "step": 0.05,
                     "tooltip": "How much it trembles."}),
        ("voices", {"type": "Int", "default": 2, "min": 1, "max": 8, "tooltip": "How many sing.", "advanced": True}),
        ("seed", {"type": "Int", "default": 0, "min": 0, "max": 99, "tooltip": "Another seed, another song.",
                  "control_after_generate": True}),
        ("choir", {"type": "Boolean", "default": False, "tooltip": "With a choir."}),
        ("key", {"type": "Combo", "options": ["minor", "major"], "default": "minor", "tooltip": "Minor or major."}),
        ("words", {"type": "String", "default": "la", "tooltip": "What is sung."}),
    ],
)  # fmt: skip
def test_widget_has_what_the_field_declares(widgets, name, expected):
    actual = described(widgets.widget(Sung, name))
    assert actual == {"id": name, "advanced": False, **expected}
    number = float if actual["type"] == "Float" else int
    assert all(type(actual[key]) is number for key in ("min", "max") if key in actual)


def test_widget_takes_changes(widgets):
    changes = {"max": 2, "tooltip": "Here more.", "id": "trill", "optional": True, "advanced": True}
    actual = described(widgets.widget(Sung, "vibrato", **changes))
    assert (actual["id"], actual["max"], actual["tooltip"], actual["optional"], actual["advanced"]) == (
        "trill", 2.0, "Here more.", True, True
    )  # fmt: skip
    assert described(widgets.widget(Sung, "limit", default=0, min=0))["default"] == 0


@pytest.mark.parametrize(("name", "message"), [("files", "has no widget"), ("limit", "has no default")])
def test_what_has_no_widget_is_refused(widgets, name, message):
    with pytest.raises(ValueError, match=message):
        widgets.widget(Sung, name)


def test_a_new_option_becomes_an_optional_widget_behind_all_others(widgets):
    placed = ["seed", "choir", "words", "files", "limit", "voices"]
    assert [(socket.id, socket.options["optional"]) for socket in widgets.later_widgets(Sung, placed)] == [
        ("vibrato", True), ("key", True)
    ]  # fmt: skip


def test_inputs_of_saved_graphs_stay_as_they_were():
    """The fixture holds all inputs of commit 667951c; a graph keeps values by place: new ones may only follow."""
    old = json.loads((ROOT / "tests" / "fixtures" / "node_inputs.json").read_text(encoding="utf-8"))
    new = inputs_of(ROOT)
    assert old.keys() <= new.keys()
    for node, inputs in old.items():
        for saved, now in zip(inputs, new[node], strict=False):
            expected = {key: saved[key] for key in saved.keys() - CHANGED.get((node, saved["id"]), set())}
            assert {key: now.get(key) for key in expected} == expected, (node, saved["id"])
        assert len(new[node]) >= len(inputs)


def test_every_node_that_writes_a_video_has_the_switch_of_its_mark():
    for node, inputs in inputs_of(ROOT).items():
        names = [entry["id"] for entry in inputs]
        assert ("crf" in names) == ("ai_mark" in names), node
