"""Curves of newer ComfyUI as numbers of every frame; no ComfyUI is needed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from comfy_stub import PACK, nodes_of

ROOT = Path(__file__).parents[2]


class Parabola:
    """A curve as newer ComfyUI's: y = x² over 0..1."""

    @staticmethod
    def interp_array(x: np.ndarray) -> np.ndarray:
        return x**2

    @classmethod
    def from_raw(cls, data: dict) -> Parabola:
        if len(data["points"]) != 2:
            raise ValueError("two points are needed")
        return cls()


@pytest.fixture(scope="module")
def frame_values():
    with nodes_of(ROOT):
        yield importlib.import_module(f"{PACK}.nodes.bindings.curves").frame_values


@pytest.fixture
def newer(monkeypatch):
    """A ComfyUI that knows curves."""
    module = ModuleType("comfy_api.input")
    module.CurveInput = Parabola
    monkeypatch.setitem(sys.modules, "comfy_api.input", module)


def test_a_curve_spans_the_clip_from_its_first_to_its_last_frame(frame_values):
    assert frame_values(Parabola(), 5) == [0.0, 0.0625, 0.25, 0.5625, 1.0]
    assert frame_values(Parabola(), 1) == [0.0]


@pytest.mark.parametrize("given", [0.5, [1.0, 0.25], "text"])
def test_what_is_no_curve_is_left_to_the_next(frame_values, given):
    assert frame_values(given, 3) is given


@pytest.mark.usefixtures("newer")
def test_what_a_widget_holds_for_a_curve_is_read(frame_values):
    assert frame_values({"points": [[0, 0], [1, 1]], "interpolation": "linear"}, 3) == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("given", [{}, {"points": [[0, 0]]}, {"points": 3}])
@pytest.mark.usefixtures("newer")
def test_a_broken_curve_is_told(frame_values, given):
    with pytest.raises(ValueError, match="a curve needs points"):
        frame_values(given, 3)


def test_a_curve_for_a_comfyui_without_curves_is_told(frame_values, monkeypatch):
    monkeypatch.setitem(sys.modules, "comfy_api.input", None)
    with pytest.raises(ValueError, match="a ComfyUI that knows curves"):
        frame_values({"points": [[0, 0], [1, 1]]}, 3)
