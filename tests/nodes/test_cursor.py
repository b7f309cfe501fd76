"""Frame numbers that context windows name; no ComfyUI is needed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfy_stub import PACK, nodes_of

ROOT = Path(__file__).parents[2]
WINDOW = [12, 13, 14, 15]


@pytest.fixture(scope="module")
def cursor():
    with nodes_of(ROOT):
        yield importlib.import_module(f"{PACK}.nodes.bindings.cursor").Cursor(first=100)


@pytest.mark.parametrize(
    ("options", "count", "expected"),
    [
        ({}, 2, [100, 101]),
        ({"context_window": SimpleNamespace(index_list=WINDOW)}, 4, [112, 113, 114, 115]),
        # since 0.21: the frame before the window stands in front of it, and is not listed
        ({"context_window": SimpleNamespace(index_list=WINDOW, causal_anchor_index=11)}, 5, [111, 112, 113, 114, 115]),
        ({"context_window": SimpleNamespace(index_list=WINDOW, causal_anchor_index=-1)}, 4, [112, 113, 114, 115]),
        ({"context_window": SimpleNamespace(index_list=WINDOW, causal_anchor_index=None)}, 4, [112, 113, 114, 115]),
        ({"ad_params": {"sub_idxs": [7, 8]}}, 2, [107, 108]),
        ({"ad_params": {"sub_idxs": None}, "context_window": None}, 1, [100]),
    ],
)
def test_frames_are_those_of_the_window(cursor, options, count, expected):
    assert cursor.frames(count, options) == expected


def test_frames_of_another_source_count_where_no_window_names_any(cursor):
    assert cursor.frames(2, {}, listed=[3, 9]) == [103, 109]


def test_another_number_of_frames_is_refused(cursor):
    window = SimpleNamespace(index_list=WINDOW, causal_anchor_index=11)
    with pytest.raises(ValueError, match="names 5 frames, but 4 are being denoised"):
        cursor.frames(4, {"context_window": window})
