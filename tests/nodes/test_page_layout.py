"""Every shipped workflow on ComfyUI's page, in the classic rendering of nodes and in the newer one.

No node covers another, none is red, each lies in its group; forms (app mode) and blueprints hold what they should.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
from pathlib import Path

import pytest
from browser import Tab, shipped

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
# inputs of the form
APPS = {"quick_portrait": 5, "dub_a_video": 6, "score_a_video": 2, "keypoint_portrait": 6, "keypoint_dub": 4}
APPS |= {"dub_lips": 5}
SCREEN = (1700, 1250)
MEDIA = ("LoadImage", "LoadAudio", "LoadVideo")
# boxes in the graph's units, with the title: id, left, top, width, height
CLASSIC = "app.graph._nodes.map(n => [Number(n.id), ...n.getBounding()])"
NEWER = """[...document.querySelectorAll('.lg-node[data-node-id]')].map(element => {
  const box = element.getBoundingClientRect(), k = app.canvas.ds.scale;
  return [Number(element.dataset.nodeId), box.left / k, box.top / k, box.width / k, box.height / k];
})"""
REACH = "[0, 1].map(axis => Math.max(...app.graph._nodes.map(n => n.pos[axis] + n.size[axis])))"
START = "[0, 1].map(axis => Math.min(...app.graph._nodes.map(n => n.pos[axis])))"
UNKNOWN = "app.graph._nodes.map(n => n.type).filter(type => !LiteGraph.registered_node_types[type])"
OUTSIDE = """(() => {
  const frames = app.graph._groups.map(g => [...g._bounding]), last = (b, i) => b[i] + b[i + 2];
  const holds = (f, b) => f[0] <= b[0] && f[1] <= b[1] && last(b, 0) <= last(f, 0) && last(b, 1) <= last(f, 1);
  const nodes = app.graph._nodes.filter(n => n.type != 'MarkdownNote');
  const out = nodes.filter(n => !frames.some(f => holds(f, [...n.getBounding()])));
  return out.map(n => `${n.type} lies outside its group`);
})()"""
MISSING = """(() => {
  const known = node => (node.widgets ?? []).filter(w => Array.isArray(w.options?.values) && w.value !== '');
  const files = app.graph._nodes.filter(n => %s.includes(n.type) && n.mode === 0);
  const lost = w => !w.options.values.includes(w.value);
  return files.flatMap(n => known(n).filter(lost).map(w => `${n.type}: ${w.value}`));
})()"""


def meet(a: list[float], b: list[float], slack: float = 1) -> bool:
    return all(a[i] + slack < b[i] + b[i + 2] and b[i] + slack < a[i] + a[i + 2] for i in (0, 1))


def covered(boxes: list[list[float]], kinds: dict[int, str]) -> list[str]:
    pairs = ((a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    return [f"{kinds[a[0]]} {a[0]} and {kinds[b[0]]} {b[0]}" for a, b in pairs if meet(a[1:], b[1:])]


async def boxes_of(tab, newer: bool) -> list[list[float]]:
    """Where nodes lie once they have stopped growing with the pictures and films they show."""
    x0, y0 = await tab.evaluate(START)
    x1, y1 = await tab.evaluate(REACH)
    scale = min((SCREEN[0] - 120) / (x1 - x0), (SCREEN[1] - 200) / (y1 - y0), 1)
    place = f"app.canvas.ds.scale = {scale}; app.canvas.ds.offset = [{80 / scale - x0}, {120 / scale - y0}]"
    await tab.evaluate(f"{place}; app.canvas.setDirty(true, true); app.canvas.draw(true, true)")
    before: list = []
    for _ in range(60):
        await asyncio.sleep(1)
        boxes = sorted(await tab.evaluate(NEWER if newer else CLASSIC))
        if boxes == before:
            return boxes
        before = boxes
    raise AssertionError("nodes never stop growing")


@pytest.mark.parametrize("rendering", ["classic", "newer"])
def test_no_node_covers_another(browser, request, rendering):
    newer = rendering == "newer"
    if newer:
        request.getfixturevalue("drawn_by_vue")
    faults: dict[str, list[str]] = {}

    async def act(tab: Tab) -> None:
        for name in WORKFLOWS:
            graph = shipped(name)
            kinds = {node["id"]: node["type"] for node in graph["nodes"]}
            await tab.load(graph)
            boxes = await boxes_of(tab, newer)
            assert {box[0] for box in boxes} == set(kinds), name
            faults[name] = covered(boxes, kinds)
            faults[name] += await tab.evaluate(MISSING % json.dumps(MEDIA))
            faults[name] += await tab.evaluate(UNKNOWN)
            faults[name] += await tab.evaluate(OUTSIDE) if graph["groups"] else []
            faults[name] += ["a group without a title" for group in graph["groups"] if not group["title"]]
            await tab.shoot(f"layout_{rendering}_{name}")
            if os.environ.get("PORTRAITTALK_BOXES"):  # for whoever moves nodes in tools/
                with open(os.environ["PORTRAITTALK_BOXES"], "a", encoding="utf-8") as out:
                    out.write(
                        json.dumps([rendering, name, [[kinds[box[0]], *map(round, box[:5])] for box in boxes]]) + "\n"
                    )

    browser.visit(act, newer, SCREEN)
    assert not {name: found for name, found in faults.items() if found}


@pytest.mark.parametrize("name", APPS)
def test_it_opens_as_a_form(browser, name):
    """Newer pages show the chosen inputs and outputs instead of the graph; older ones the graph."""

    async def act(tab: Tab) -> None:
        graph = shipped(name, as_form=True)
        await tab.evaluate(f"app.loadGraphData({json.dumps(graph)}).then(() => null)")
        await tab.until(lambda: tab.evaluate("!!app.graph.serialize().extra.linearData"), True)
        nodes = {node["id"]: node for node in graph["nodes"]}
        data = graph["extra"]["linearData"]
        assert len(data["inputs"]) == APPS[name]
        for number, widget in data["inputs"]:
            assert await tab.evaluate(f"app.graph.getNodeById({number}).widgets.some(w => w.name === '{widget}')"), (
                widget
            )
        for number in data["outputs"]:
            assert await tab.evaluate(f"app.graph.getNodeById({number}).constructor.nodeData.output_node"), nodes[
                number
            ]
        await tab.shoot(f"form_{name}")

    browser.visit(act, size=SCREEN)


def around(name: str) -> dict:
    """A graph of one blueprint's node, with loaders on its media sockets and Save Video behind a video."""
    graph = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))
    (outer,) = graph["nodes"]
    files = {"IMAGE": ("LoadImage", ["portraittalk_portrait.jpg", "image"])}
    files |= {"AUDIO": ("LoadAudio", ["portraittalk_speech.wav", None, None])}
    files |= {"VIDEO": ("LoadVideo", ["portraittalk_film.mp4", "image"])}
    for slot, socket in enumerate(outer["inputs"]):
        if "widget" not in socket:
            kind, values = files[socket["type"]]
            number = socket["link"] = len(graph["links"]) + 1
            output = {"name": socket["type"], "type": socket["type"], "links": [number]}
            graph["nodes"].append(_node(len(graph["nodes"]) + 1, kind, values, [], [output]))
            graph["links"].append([number, graph["nodes"][-1]["id"], 0, 1, slot, socket["type"]])
    (*_, saved) = [slot for slot, socket in enumerate(outer["outputs"]) if socket["type"] == "VIDEO"] or [None]
    if saved is not None:
        number = len(graph["links"]) + 1
        outer["outputs"][saved]["links"].append(number)
        save = [{"name": "video", "type": "VIDEO", "link": number}]
        graph["nodes"].append(
            _node(len(graph["nodes"]) + 1, "SaveVideo", ["video/blueprint", "auto", "auto"], save, [])
        )
        graph["links"].append([number, 1, saved, graph["nodes"][-1]["id"], 0, "VIDEO"])
    return graph | {"last_node_id": len(graph["nodes"]), "last_link_id": len(graph["links"])}


def _node(number: int, kind: str, values: list, inputs: list, outputs: list) -> dict:
    place = {"pos": [500, 120 * number], "size": [300, 100], "flags": {}, "order": number, "mode": 0}
    sockets = {"inputs": inputs, "outputs": outputs, "widgets_values": values, "properties": {}}
    return {"id": number, "type": kind, **place, **sockets}


@pytest.fixture
def listed(comfy) -> dict:
    """The blueprints that the server lists."""
    try:
        return comfy.get_json("/global_subgraphs")
    except urllib.error.HTTPError as error:
        assert error.code == 404
        pytest.skip("this ComfyUI lists no subgraph blueprints")


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("name", ["Talking Portrait", "Keypoint Portrait", "Dub a Video", "Score a Video"])
def test_a_blueprint_is_the_graph_inside_it(browser, name):
    """The page takes it apart into the nodes inside, wired and set as in the file."""
    graph = around(name)
    (inside,) = graph["definitions"]["subgraphs"]
    expected = sorted(node["type"] for node in [*inside["nodes"], *graph["nodes"][1:]])

    async def act(tab: Tab) -> None:
        await tab.load(graph)
        prompt = await tab.prompt()
        assert sorted(node["class_type"] for node in prompt.values()) == expected
        by_kind = {node["class_type"]: node["inputs"] for node in prompt.values()}
        if name == "Talking Portrait":
            motion, draw = by_kind["PortraitTalkAudioToLandmarks"], by_kind["PortraitTalkRenderPortrait"]
            assert motion["portrait"] == draw["portrait"] and motion["audio"] == draw["audio"]
            assert [motion[key] for key in ("fps", "mouth_gain", "blink_rate", "seed")] == [25, 1, 15, 0]
            shown = await tab.evaluate("app.graph._nodes.find(n => n.isSubgraphNode?.()).widgets.map(w => w.name)")
            assert {"fps", "mouth_gain", "head_motion", "blink_rate", "seed", "face_index"} <= set(shown)
            await tab.evaluate(
                "app.graph._nodes.find(n => n.isSubgraphNode?.()).widgets.find(w => w.name === 'fps').value = 8"
            )
            assert await tab.run() == "success"
        elif name == "Keypoint Portrait":
            draw, bridge = by_kind["PortraitTalkRenderKeypoints"], by_kind["PortraitTalkLandmarksToKeypoints"]
            assert [draw[key] for key in ("alpha", "paste", "measure_opening")] == [1, "picture", False]
            assert draw["keypoint_renderer"] == bridge["keypoint_renderer"] and draw["portrait"] == bridge["portrait"]
        elif name == "Dub a Video":
            sampler = by_kind["PortraitTalkIdentityNetSampler"]
            assert [sampler[key] for key in ("steps", "denoise", "keep_frames")] == [20, 0.65, "always"]
            assert by_kind["CreateVideo"]["audio"] == by_kind["PortraitTalkAudioToLandmarks"]["audio"]
        else:
            compare = by_kind["PortraitTalkCompareVideos"]
            assert [compare[key] for key in ("align", "crop", "fps")] == [False, "whole", 25]
            assert all(isinstance(compare[wire], list) for wire in ("generated", "target", "portrait"))
        await tab.shoot(f"blueprint_{name.replace(' ', '_').lower()}")

    browser.visit(act, size=SCREEN)


def test_blueprints_are_listed(listed):
    ours = {entry["name"] for entry in listed.values() if entry["info"]["node_pack"].endswith("pt_under_test")}
    assert ours == {path.stem for path in (ROOT / "subgraphs").glob("*.json")}
