"""Subgraph blueprints: every link has two ends, and what the outer node shows exists inside; no ComfyUI is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "subgraphs").glob("*.json"))
INSIDE_IN, INSIDE_OUT = -10, -20


def test_these_are_the_blueprints():
    assert [path.stem for path in FILES] == ["Dub a Video", "Keypoint Portrait", "Score a Video", "Talking Portrait"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_and_sockets_agree(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    (outer,), (inner,) = graph["nodes"], graph["definitions"]["subgraphs"]
    assert (outer["type"], outer["title"], inner["name"]) == (inner["id"], path.stem, path.stem)
    assert len(inner["description"]) > 30
    nodes, links = {node["id"]: node for node in inner["nodes"]}, {link["id"]: link for link in inner["links"]}
    for number, link in links.items():
        origin, target = nodes.get(link["origin_id"]), nodes.get(link["target_id"])
        if origin:
            assert number in origin["outputs"][link["origin_slot"]]["links"]
        else:
            assert link["origin_id"] == INSIDE_IN and number in inner["inputs"][link["origin_slot"]]["linkIds"]
        if target:
            socket = target["inputs"][link["target_slot"]]
            assert socket["link"] == number and link["type"] in socket["type"].split(",")
        else:
            assert link["target_id"] == INSIDE_OUT and number in inner["outputs"][link["target_slot"]]["linkIds"]
    used = [item["link"] for node in nodes.values() for item in node["inputs"] if item["link"] is not None]
    used += [link for socket in inner["outputs"] for link in socket["linkIds"]]
    assert sorted(used) == sorted(links)  # none ends twice, none ends nowhere


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_outer_node_has_the_subgraphs_sockets_and_widgets(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    (outer,), (inner,) = graph["nodes"], graph["definitions"]["subgraphs"]
    for side in ("inputs", "outputs"):
        sockets = [(item["name"], item["type"]) for item in inner[side]]
        assert [(item["name"], item["type"]) for item in outer[side]] == sockets
        assert len(set(sockets)) == len(sockets)
    nodes = {str(node["id"]): node for node in inner["nodes"]}
    shown = [item["name"] for item in outer["inputs"] if "widget" in item]
    assert len(shown) == len(outer["properties"]["proxyWidgets"])
    for number, widget in outer["properties"]["proxyWidgets"]:
        assert any(item.get("widget", {}).get("name") == widget for item in nodes[number]["inputs"])
