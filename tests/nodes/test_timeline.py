"""The timeline under AudioToLandmarks in a real browser, in the classic rendering of nodes and in the newer one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine

import pytest
from browser import SETTLE_S, Tab, shipped
from timeline_tab import BOX, POINTS, Timeline

from portraittalk_core.motion.gain import gain_points

pytestmark = pytest.mark.comfy

NODE = "PortraitTalkAudioToLandmarks"
KEPT_NODES = ("LoadImage", "LoadAudio", NODE)
# where the drawn gain stands among the values of the node's widgets
(GAIN_AT,) = (node["widgets_values"].index("[]") for node in shipped("quick_portrait")["nodes"] if node["type"] == NODE)


def graph(points: str = "[]") -> dict:
    """A portrait and a sound into AudioToLandmarks, nothing else."""
    workflow = shipped("quick_portrait")
    nodes = [node for node in workflow["nodes"] if node["type"] in KEPT_NODES]
    ids = {node["id"] for node in nodes}
    links = [link for link in workflow["links"] if link[1] in ids and link[3] in ids]
    for node in nodes:
        for output in node["outputs"]:
            output["links"] = [link[0] for link in links if link[0] in output["links"]]
        if node["type"] == NODE:
            node["widgets_values"][GAIN_AT] = points
            node["pos"] = [400, -160]  # with its timeline inside the window
        else:
            node["pos"] = [40, 60 if node["type"] == "LoadImage" else 460]
    return {**workflow, "nodes": nodes, "links": links}


@pytest.fixture(params=["classic", "vue"])
def visit(request, browser):
    """Opens a graph in one of the page's two renderings and does something to the node's timeline."""
    newer = request.param == "vue"
    if newer:
        request.getfixturevalue("drawn_by_vue")

    def go(act: Callable[[Tab, Timeline], Coroutine]) -> None:
        async def begin(tab: Tab) -> None:
            await tab.load(graph())
            await act(tab, Timeline(tab, NODE))

        browser.visit(begin, newer)

    return go


def test_it_lies_under_the_node_and_shows_what_a_run_sent(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        box_left, top, right, bottom = await timeline.ask(BOX)
        corner = "app.canvas.convertOffsetToCanvas"
        x0, y0 = await timeline.ask(f"{corner}(n.pos)")
        x1, y1 = await timeline.ask(f"{corner}([n.pos[0] + n.size[0], n.pos[1] + n.size[1]])")
        dx, dy = await timeline.ask("(b => [b.x, b.y])(app.canvas.canvas.getBoundingClientRect())")
        assert x0 + dx <= box_left < right <= x1 + dx
        assert y0 + dy <= top < bottom <= y1 + dy + 60  # the newer rendering's nodes are a little higher
        assert right - box_left > 250
        assert bottom - top > 150
        await tab.shoot("timeline_empty")
        await timeline.run()
        assert await timeline.ask("[t.track.frames, t.track.seconds]") == [193, 7.72]
        await tab.mouse("mouseMoved", await timeline.place(0.05, 1.5))
        assert await timeline.ask("t.time") == pytest.approx(0.05 * 7.72, abs=0.03)
        first = await timeline.face()
        await tab.mouse("mouseMoved", await timeline.place(0.6, 1.5))
        assert await timeline.ask("t.time") == pytest.approx(0.6 * 7.72, abs=0.03)
        assert await timeline.face() != first
        await tab.shoot("timeline_run")

    visit(act)


def test_mouse_draws_the_gain_and_the_workflow_keeps_it(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        await timeline.run()
        position = await timeline.ask("[...n.pos]")
        await tab.click(await timeline.place(0.25, 1.5))
        await tab.click(await timeline.place(0.5, 0.5), times=2)  # a double click on the bare lane leaves its point
        await tab.click(await timeline.place(0.75, 1.0))
        points = [(0.25 * 7.72, 1.5), (0.5 * 7.72, 0.5), (0.75 * 7.72, 1.0)]
        assert await timeline.points() == [pytest.approx(point, abs=0.04) for point in points]
        await tab.drag(await timeline.place(0.5, 0.5), await timeline.place(0.6, 0.2))
        moved = (0.6 * 7.72, 0.2)
        assert (await timeline.points())[1] == pytest.approx(moved, abs=0.04)
        assert await timeline.ask("[...n.pos]") == position  # the node stays where it is
        await tab.shoot("timeline_drawn")
        serialized = await tab.evaluate("JSON.stringify(app.graph.serialize())")
        values = next(node for node in json.loads(serialized)["nodes"] if node["type"] == NODE)["widgets_values"]
        assert gain_points(values[GAIN_AT]) == await timeline.points()
        inputs = (await tab.inputs())[NODE]
        assert inputs["gain_points"] == values[GAIN_AT]
        assert "timeline" not in inputs
        await timeline.run()  # which the gain changes
        gains = await timeline.ask("t.track.curves.gain")
        assert min(gains) == pytest.approx(0.2, abs=0.02)
        assert gains[0] == pytest.approx(1.5, abs=0.02)
        assert not await timeline.ask("t.edited")
        await tab.evaluate("app.graph.clear(); app.nodeOutputs = {}")
        await tab.load(json.loads(serialized))
        assert await timeline.ask("[t.track, t.points]") == [
            None,
            [list(point) for point in gain_points(values[GAIN_AT])],
        ]
        await tab.shoot("timeline_reloaded")

    visit(act)


def test_points_are_deleted_and_come_back_by_undo(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        await timeline.run()
        for share, gain in ((0.2, 1.6), (0.5, 0.4), (0.8, 1.2)):
            await tab.click(await timeline.place(share, gain))
        three = await timeline.points()
        await tab.click(await timeline.place(0.5, 0.4), times=2)
        assert await timeline.points() == [three[0], three[2]]
        await tab.click(await timeline.place(0.2, 1.6), button="right")
        assert await timeline.points() == [three[2]]
        await tab.key("z", ctrl=True)
        await asyncio.sleep(1.5)  # the page loads the graph anew
        await tab.until(timeline.points, [three[0], three[2]])
        await tab.until(lambda: timeline.ask("[!!t.track, t.element.isConnected]"), [True, True])  # the picture stays
        await tab.click(await timeline.place(0.5, 1.8))
        assert len(await timeline.points()) == 3

    visit(act)


def test_keys_move_and_edit(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        await timeline.run()
        await timeline.ask("t.canvas.focus() ?? 0")
        for name in ("End", "Home", "ArrowRight", "ArrowRight"):
            await tab.key(name)
        assert await timeline.ask("t.time") == pytest.approx(2 / 25)
        await tab.key("ArrowDown")
        assert await timeline.points() == [pytest.approx((0.08, 0.95))]
        await tab.key("ArrowDown")
        assert await timeline.points() == [pytest.approx((0.08, 0.9))]
        await tab.key("Delete")
        assert await timeline.points() == []
        await tab.key("Delete")
        assert await tab.evaluate(f"{timeline.nodes}.length") == 1  # which would else delete the node

    visit(act)


def test_typed_points_appear_and_broken_text_is_left_alone(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        await timeline.run()
        await timeline.ask("(w.value = '[[4, 0.5], [1, 2]]', 0)")
        await tab.until(lambda: timeline.ask("t.points"), [[1, 2], [4, 0.5]])
        for broken in ("[[1, 2],", "[[1]]", "[[1, 3]]", "[[-1, 1]]", "7", '[["1", 1]]'):
            await timeline.ask(f"(w.value = {json.dumps(broken)}, w.callback?.(w.value), 0)")
            assert await timeline.ask("t.points") is None
            await tab.click(await timeline.place(0.5, 0.5))
            assert await timeline.ask("w.value") == broken

    visit(act)


def test_two_nodes_have_their_own_and_a_removed_one_is_forgotten(visit):
    async def act(tab: Tab, timeline: Timeline) -> None:
        workflow = graph("[[1, 0.5]]")
        first = next(node for node in workflow["nodes"] if node["type"] == NODE)
        second = {**json.loads(json.dumps(first)), "id": 99, "pos": [860, -160]}
        second["widgets_values"][GAIN_AT] = "[[2, 1.5]]"
        sources = {link[0]: link for link in workflow["links"]}
        for number, entry in enumerate(item for item in second["inputs"] if item["link"] is not None):
            source = sources[entry["link"]]
            entry["link"] = 500 + number
            workflow["links"].append([entry["link"], source[1], source[2], 99, source[4], source[5]])
            from_node = next(node for node in workflow["nodes"] if node["id"] == source[1])
            from_node["outputs"][source[2]]["links"].append(entry["link"])
        for output in second["outputs"]:
            output["links"] = []
        workflow["nodes"].append(second)
        await tab.load(workflow)
        await timeline.run()
        assert await timeline.ask("[t.points, t.track.curves.gain[0]]", 0) == [[[1, 0.5]], 0.5]
        assert await timeline.ask("[t.points, t.track.curves.gain[0]]", 1) == [[[2, 1.5]], 1.5]
        await tab.click(await timeline.place(0.7, 1.5))
        assert [len(await timeline.points(0)), len(await timeline.points(1))] == [2, 1]
        await tab.evaluate(
            f"window.gone = {timeline.nodes}[0].portraittalkTimeline; app.graph.remove({timeline.nodes}[0])"
        )
        await tab.until(lambda: tab.evaluate("window.gone.element.isConnected"), False)
        await tab.evaluate("window.checks = 0; window.gone.check = () => window.checks++")
        await asyncio.sleep(SETTLE_S)
        assert await tab.evaluate("[window.checks, window.gone.element.isConnected]") == [0, False]
        assert await timeline.points() == [(2, 1.5)]

    visit(act)


def test_its_gain_is_the_one_that_the_node_computes(browser):
    from fractions import Fraction

    from portraittalk_core.motion.gain import gain_curve

    texts = ["[]", "", "[[1, 0.5]]", "[[0.5, 0], [1.5, 2], [1.5, 0.5], [2, 1]]", "[[3, 1], [0, 0.25]]"]

    async def act(tab: Tab) -> None:
        for text in texts:
            parsed = f"m.parsePoints({json.dumps(text)})"
            gains = f"Array.from({{ length: 80 }}, (_, i) => m.gainAt({parsed}, (i + 0.5) / 25))"
            curve = gain_curve(text, 80, Fraction(25))
            expected = [1.0] * 80 if curve is None else curve.tolist()
            assert await tab.evaluate(f"{POINTS}.then(m => {gains})") == pytest.approx(expected, abs=1e-6)
        written = await tab.evaluate(f"{POINTS}.then(m => m.formatPoints([[2.00049, 0.333], [1, 1]]))")
        assert gain_points(written) == [(1.0, 1.0), (2.0, 0.33)]

    browser.visit(act)
