"""One line declares an option: flag, help, check, widget, manifest column and table row follow from it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfy_stub import PACK, described, nodes_of

from portraittalk_core.batch import manifest
from portraittalk_core.cli.arguments import add_options, options_from
from portraittalk_core.errors import InputError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.options import option

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class WiderOptions(MotionOptions):
    """Motion options with one more."""

    jaw_drop: float = option(1.0, 0, 3, "How far the jaw drops: 1 is natural.", step=0.1)  # the one line


def test_flag_follows():
    parser = argparse.ArgumentParser("test")
    add_options(parser.add_argument_group("motion"), WiderOptions)
    assert options_from(parser.parse_args(["--jaw-drop", "2.5"]), WiderOptions).jaw_drop == 2.5
    assert options_from(parser.parse_args([]), WiderOptions) == WiderOptions()
    assert "how far the jaw drops: 1 is natural (0 to 3, default: 1)" in " ".join(parser.format_help().split())
    with pytest.raises(InputError, match="--jaw-drop must lie between 0 and 3, but is 4"):
        options_from(parser.parse_args(["--jaw-drop", "4"]), WiderOptions)


def test_check_follows():
    with pytest.raises(InputError, match="jaw_drop must lie between 0 and 3, but is 4"):
        WiderOptions(jaw_drop=4)


def widgets(speech):
    """The node's inputs whose values a saved graph keeps by their place, by id; sockets go by name."""
    inputs = speech.AudioToLandmarks.define_schema().inputs
    return {one.id: one for one in inputs if "default" in one.options}


def test_widget_follows_behind_those_of_saved_graphs(monkeypatch):
    with nodes_of(ROOT):
        speech = importlib.import_module(f"{PACK}.nodes.speech")
        before = widgets(speech)
        monkeypatch.setattr(speech, "MotionOptions", WiderOptions)
        after = widgets(speech)
    assert list(after) == [*before, "jaw_drop"]
    assert described(after["jaw_drop"]) == {
        "id": "jaw_drop", "type": "Float", "default": 1.0, "min": 0.0, "max": 3.0, "step": 0.1, "optional": True,
        "tooltip": "How far the jaw drops: 1 is natural.", "advanced": False,
    }  # fmt: skip


def test_manifest_column_follows(monkeypatch, tmp_path):
    monkeypatch.setitem(manifest.KINDS, manifest.TALK, (WiderOptions,))
    for name in ("a.png", "a.wav"):
        (tmp_path / name).write_bytes(b"")
    table = tmp_path / "jobs.csv"
    table.write_text("job,out,portrait,speech,jaw_drop\ntalk,a,a.png,a.wav,2\ntalk,b,a.png,a.wav,4\n", encoding="utf-8")
    good, bad = manifest.read_manifest(table)
    assert good.options == {"jaw_drop": 2} and good.problem is None
    assert bad.problem == "jaw_drop must lie between 0 and 3, but is 4"


def test_row_of_the_docs_follows():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    make_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_docs)
    rows = make_docs.options_table(WiderOptions).splitlines()
    assert "| `--jaw-drop` | How far the jaw drops: 1 is natural | 0 to 3 | 1 |" in rows
    # a row an option, and none for what only Python can give
    names = [
        field.name
        for field in dataclasses.fields(MotionOptions)
        if field.name not in ("gain_curve", "emotion_points", "gaze_points", "listening", "style_statistics")
    ]
    flags = [row.split("`")[1] for row in rows if row.startswith("| `--")]
    assert flags == [*("--" + name.replace("_", "-") for name in names), "--jaw-drop"]
