"""The shipped workflow of styles on ComfyUI's own page: loaded, run and inspected."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfy

ROOT, SIZE = Path(__file__).parents[2], (2700, 1350)


@pytest.fixture(scope="module")
def page_state():
    """The browser of test_page.py."""
    spec = importlib.util.spec_from_file_location("page_in_a_browser", Path(__file__).with_name("test_page.py"))
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    return page._page_state


def test_page_runs_speak_in_their_style(comfy, page_state, short_speech, tmp_path):
    """Nothing is downloaded; no node covers another, each lies in a named group, the plot is shown."""
    workflow = json.loads((ROOT / "workflows" / "speak_in_their_style.json").read_text())
    (sound,) = (node for node in workflow["nodes"] if node["type"] == "LoadAudio")
    sound["widgets_values"][0] = short_speech  # quicker to draw
    picture = Path(os.environ.get("PORTRAITTALK_SCREENSHOTS", tmp_path)) / "speak_in_their_style.png"
    result, problems = page_state(comfy, workflow, tmp_path, picture, size=SIZE)
    assert result["ended"] == "success"
    assert (result["unknown"], result["overlaps"], result["outside"]) == ([], [], [])
    assert all(group["title"] for group in workflow["groups"])
    kinds = {node["class_type"]: node["inputs"] for node in result["prompt"].values()}
    expected = {"preset": "of the reference", "strength": 1, "noise": 0.1, "seed": 0, "extractor": "none"}
    expected |= {"style_attention": "none", "fps": 25, "face_index": 0}
    assert {key: kinds["PortraitTalkStylePrior"][key] for key in expected} == expected
    assert isinstance(kinds["PortraitTalkAudioToLandmarks"]["style"], list)
    names = {str(node["id"]): node["type"] for node in workflow["nodes"]}
    outputs_by_kind = {names.get(node): outputs for node, outputs in result["shown"].items()}
    for kind in ("PortraitTalkStylePrior", "SaveVideo"):
        assert outputs_by_kind[kind]["images"]
    assert outputs_by_kind["PortraitTalkSaveStyle"]["text"]
    assert not [problem for problem in problems if "portraittalk" in problem.lower() or "pt_under_test" in problem]
    assert picture.stat().st_size > 50_000
