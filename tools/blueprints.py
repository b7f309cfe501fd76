"""Subgraph blueprints, for make_workflows.py: whole tasks that the page's node library lists as one node."""

import uuid
from dataclasses import dataclass, field

NAMESPACE = uuid.UUID("5c1d7b0e-2f3a-5b6c-9d8e-7f6a5b4c3d2e")
OUTSIDE_IN, OUTSIDE_OUT = -10, -20  # the page's numbers for a subgraph's own ends
ROW = 20  # pixels between two sockets


@dataclass(frozen=True)
class Blueprint:
    """One task as one node.

    Attributes:
        name: as the node library shows it; the file's name too.
        description: one sentence.
        nodes: graph in the form of portrait_workflows.GRAPHS.
        inputs: name, type, and the (node, socket) pairs inside that get it.
        widgets: name, type, (node, widget): widgets of inner nodes that the outer one shows.
        outputs: name, type, (node, slot).
        size: of the outer node, pixels.
    """

    name: str
    description: str
    nodes: dict
    inputs: list = field(default_factory=list)
    widgets: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    size: tuple[int, int] = (340, 260)


def of(graphs: dict) -> list[Blueprint]:
    """All blueprints; those that are a workflow's own graph take it from there."""
    return [
        talking_portrait(graphs["quick_portrait"]),
        keypoint_portrait(graphs["keypoint_portrait"]),
        dub_a_video(graphs["dub_a_video"]),
        score_a_video(),
    ]


def _inside(graph: dict, *names: str) -> dict:
    """The named nodes of a workflow, without the wires that come from others."""
    return {
        name: (*rest, {socket: wire for socket, wire in wires.items() if wire[0] in names})
        for name, (*rest, wires) in graph.items()
        if name in names
    }


def talking_portrait(graph: dict) -> Blueprint:
    """Portrait and speech to video, without weights."""
    return Blueprint(
        "Talking Portrait",
        "A portrait speaks: picture and speech become a video, without weights.",
        _inside(graph, "motion", "draw"),
        [
            ("portrait", "IMAGE", [("motion", "portrait"), ("draw", "portrait")]),
            ("audio", "AUDIO", [("motion", "audio"), ("draw", "audio")]),
        ],
        [
            *[(name, "FLOAT", ("motion", name)) for name in ("fps", "mouth_gain", "head_motion", "blink_rate")],
            *[("seed", "INT", ("motion", "seed")), ("face_index", "INT", ("motion", "face_index"))],
        ],
        [("video", "VIDEO", ("draw", 1)), ("landmarks", "PORTRAITTALK_LANDMARKS", ("motion", 0))],
    )


def keypoint_portrait(graph: dict) -> Blueprint:
    """Portrait and speech to video, drawn by LivePortrait."""
    return Blueprint(
        "Keypoint Portrait",
        "A portrait speaks: picture and speech become a video, drawn by LivePortrait's networks.",
        _inside(graph, "motion", "networks", "bridge", "edit", "draw"),
        [
            ("portrait", "IMAGE", [(node, "portrait") for node in ("motion", "bridge", "draw")]),
            ("audio", "AUDIO", [("motion", "audio"), ("draw", "audio")]),
        ],
        [
            *[("networks", "COMBO", ("networks", "networks")), ("alpha", "FLOAT", ("draw", "alpha"))],
            *[(name, "FLOAT", ("motion", name)) for name in ("fps", "head_motion", "blink_rate")],
            *[(name, "FLOAT", ("edit", name)) for name in ("eyes_gain", "brows_gain")],
            *[("seed", "INT", ("motion", "seed")), ("face_index", "INT", ("motion", "face_index"))],
        ],
        [("video", "VIDEO", ("draw", 1)), ("keypoints", "PORTRAITTALK_KEYPOINTS", ("edit", 0))],
        (360, 340),
    )


def dub_a_video(graph: dict) -> Blueprint:
    """Film and new speech to film, painted by SD1.5."""
    outside = ("note", "film", "sound", "save", "hints")
    return Blueprint(
        "Dub a Video",
        "The face of a video says something else, painted by your SD1.5 checkpoint and pasted back.",
        _inside(graph, *(name for name in graph if name not in outside)),
        [
            ("video", "VIDEO", [("parts", "video")]),
            ("audio", "AUDIO", [("motion", "audio"), ("video", "audio")]),
        ],
        [
            *[("positive", "STRING", ("positive", "text")), ("negative", "STRING", ("negative", "text"))],
            *[("ckpt_name", "COMBO", ("checkpoint", "ckpt_name")), ("adapter", "COMBO", ("adapter", "adapter"))],
            *[("control_net_name", "COMBO", ("net", "control_net_name"))],
            *[("motion_module", "COMBO", ("control", "motion_module")), ("denoise", "FLOAT", ("paint", "denoise"))],
            *[("steps", "INT", ("paint", "steps")), ("seed", "INT", ("paint", "seed"))],
        ],
        [("video", "VIDEO", ("video", 0)), ("images", "IMAGE", ("paste", 0))],
        (400, 480),
    )


def score_a_video() -> Blueprint:
    """Two videos to numbers and a report."""
    nodes = {
        "compare": (
            "PortraitTalkCompareVideos", (0, 0), (540, 1100), [False, "whole", "reports/PortraitTalk", 25.0, 0, 0], {},
        ),
    }  # fmt: skip
    outputs = ("table", "ADFD", "SSIM", "mouth_correlation", "LSE-C", "plot", "worst_frames", "report")
    types = ("STRING", "FLOAT", "FLOAT", "FLOAT", "FLOAT", "IMAGE", "IMAGE", "STRING")
    return Blueprint(
        "Score a Video",
        "How near a generated video comes to the real one: all metrics, plots and an HTML report.",
        nodes,
        [
            ("generated", "VIDEO", [("compare", "generated")]),
            ("target", "VIDEO", [("compare", "target")]),
            ("portrait", "IMAGE", [("compare", "portrait")]),
        ],
        [
            *[("align", "BOOLEAN", ("compare", "align")), ("crop", "COMBO", ("compare", "crop"))],
            ("filename_prefix", "STRING", ("compare", "filename_prefix")),
        ],
        [(name, of, ("compare", slot)) for slot, (name, of) in enumerate(zip(outputs, types, strict=True))],
    )


def as_json(blueprint: Blueprint, inner: dict) -> dict:
    """A blueprint as the page saves it; `inner` is its graph as workflow_json gives it."""
    numbers = {name: number for number, name in enumerate(blueprint.nodes, 1)}
    nodes = {node["id"]: node for node in inner["nodes"]}
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link, strict=True)) for link in inner["links"]]

    def link(origin: int, slot: int, target: int, target_slot: int, of: str) -> int:
        links.append(dict(zip(keys, (len(links) + 1, origin, slot, target, target_slot, of), strict=True)))
        return len(links)

    ends = [(name, of, targets, False) for name, of, targets in blueprint.inputs]
    ends += [(name, of, [target], True) for name, of, target in blueprint.widgets]
    inputs = []
    for slot, (name, of, targets, is_widget) in enumerate(ends):
        ids = []
        for node_name, socket in targets:
            node = nodes[numbers[node_name]]
            if is_widget:
                node["inputs"].append({"name": socket, "type": of, "widget": {"name": socket}, "link": None})
            index = [item["name"] for item in node["inputs"]].index(socket)
            ids.append(link(OUTSIDE_IN, slot, node["id"], index, of))
            node["inputs"][index]["link"] = ids[-1]
        inputs.append({"id": _uuid(blueprint, "in", name), "name": name, "type": of, "linkIds": ids})
    outputs = []
    for slot, (name, of, (node_name, from_slot)) in enumerate(blueprint.outputs):
        node = nodes[numbers[node_name]]
        number = link(node["id"], from_slot, OUTSIDE_OUT, slot, of)
        node["outputs"][from_slot]["links"].append(number)
        outputs.append({"id": _uuid(blueprint, "out", name), "name": name, "type": of, "linkIds": [number]})
    return _around(blueprint, inner, links, inputs, outputs, numbers)


def _around(blueprint: Blueprint, inner: dict, links: list, inputs: list, outputs: list, numbers: dict) -> dict:
    """The one node that stands for the subgraph, and the subgraph's definition."""
    left, top = (min(node["pos"][axis] for node in inner["nodes"]) for axis in (0, 1))
    right = max(node["pos"][0] + node["size"][0] for node in inner["nodes"])
    ends = {}
    for side, x, sockets in (("in", left - 240, inputs), ("out", right + 120, outputs)):
        for row, socket in enumerate(sockets):
            socket["pos"] = [x + (100 if side == "in" else 20), top + ROW * (row + 1)]
        ends[side] = [x, top, 120, ROW * (len(sockets) + 2)]
    subgraph_id = _uuid(blueprint, "subgraph", blueprint.name)
    widgets = {name for name, *_ in blueprint.widgets}
    outer = {
        "id": 1,
        "type": subgraph_id,
        "pos": [0, 0],
        "size": list(blueprint.size),
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [
            {"name": item["name"], "type": item["type"], "link": None}
            | ({"widget": {"name": item["name"]}} if item["name"] in widgets else {})
            for item in inputs
        ],
        "outputs": [{"name": item["name"], "type": item["type"], "links": []} for item in outputs],
        "title": blueprint.name,
        "properties": {"proxyWidgets": [[str(numbers[node]), widget] for _, _, (node, widget) in blueprint.widgets]},
        "widgets_values": [],
    }
    state = {"lastGroupId": 0, "lastNodeId": len(numbers), "lastLinkId": len(links), "lastRerouteId": 0}
    subgraph = {
        **{"id": subgraph_id, "version": 1, "state": state, "revision": 0, "config": {}, "name": blueprint.name},
        "inputNode": {"id": OUTSIDE_IN, "bounding": ends["in"]},
        "outputNode": {"id": OUTSIDE_OUT, "bounding": ends["out"]},
        **{"inputs": inputs, "outputs": outputs, "widgets": [], "nodes": inner["nodes"], "groups": []},
        **{"links": links, "extra": {}, "category": "PortraitTalk", "description": blueprint.description},
    }
    return {
        **{"revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [outer], "links": [], "version": 0.4},
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def _uuid(blueprint: Blueprint, *words: str) -> str:
    """Always the same for the same words, so that a file changes only where it does."""
    return str(uuid.uuid5(NAMESPACE, "/".join((blueprint.name, *words))))
