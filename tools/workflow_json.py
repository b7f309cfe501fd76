"""JSON of a workflow as ComfyUI's page saves it, for make_workflows.py."""

from workflow_nodes import LATER_WIDGETS

BYPASSED = 4  # the page's number for a node that is switched off


def form(graph: dict, shown: tuple[list, list]) -> dict:
    """Entries of a workflow's `extra` that make the page open it as a form (app mode).

    Args:
        graph: the workflow's.
        shown: pairs of a node and its widget that the form shows, and the nodes whose results it shows.
    """
    numbers = {node: number for number, node in enumerate(graph, 1)}
    inputs, outputs = shown
    data = {"inputs": [[numbers[node], widget] for node, widget in inputs], "outputs": [numbers[n] for n in outputs]}
    return {"linearMode": True, "linearData": data}


def workflow_json(
    graph: dict, kinds: dict, models: dict, groups: list = (), switched_off: tuple = (), extra: dict | None = None
) -> dict:
    """The JSON of a workflow.

    Args:
        graph: a row a node: name → kind, place, size, widgets' values, wires (socket → name and output of the source).
        kinds: sockets, widgets and outputs of every kind of node, as workflow_nodes.KINDS.
        models: weights that a kind of node needs.
        groups: title, and left, top, width and height of boxes around nodes.
        switched_off: names of nodes that are bypassed.
        extra: entries of the workflow's `extra`.

    Raises:
        ValueError: a node has more or fewer values than widgets.
    """
    numbers = {name: number for number, name in enumerate(graph, 1)}
    nodes = [_node(numbers[name], row, kinds, models, name in switched_off) for name, row in graph.items()]
    links = []
    for name, (kind, _, _, values, wires) in graph.items():
        for socket, (source, slot) in wires.items():
            of = kinds[graph[source][0]][2][slot][1]
            index = _socket(nodes[numbers[name] - 1], socket, of, _widgets(kind, kinds, values))
            links.append([len(links) + 1, numbers[source], slot, numbers[name], index, of])
    for link, source, slot, target, index, _ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link)
        nodes[target - 1]["inputs"][index]["link"] = link
    boxes = [
        {"id": number, "title": title, "bounding": list(bounding), "color": "#3f789e", "font_size": 24, "flags": {}}
        for number, (title, bounding) in enumerate(groups, 1)
    ]
    return {
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": boxes,
        "config": {},
        "extra": {"ds": {"scale": 0.8, "offset": [60, 60]}} | (extra or {}),
        "version": 0.4,
    }


def _widgets(kind: str, kinds: dict, values: list) -> list[str]:
    """Names of a node's widgets: those of its kind, and as many of the later ones as there are values for."""
    widgets = kinds[kind][1]
    return [*widgets, *LATER_WIDGETS.get(kind, ())][: max(len(values), len(widgets))]


def _node(number: int, row: tuple, kinds: dict, models: dict, switched_off: bool) -> dict:
    """A node without links."""
    kind, at, size, values, _ = row
    sockets, _, outputs = kinds[kind]
    num_widgets = len(_widgets(kind, kinds, values))
    if len(values) != num_widgets:
        raise ValueError(f"{kind} has {num_widgets} widgets, {len(values)} values are given")
    return {
        "id": number,
        "type": kind,
        "pos": list(at),
        "size": list(size),
        "flags": {},
        "order": number - 1,
        "mode": BYPASSED if switched_off else 0,
        "inputs": [{"name": socket, "type": of, "link": None} for socket, of in sockets],
        "outputs": [{"name": output, "type": of, "links": []} for output, of in outputs],
        "properties": {"Node name for S&R": kind} | ({"models": models[kind]} if kind in models else {}),
        "widgets_values": values,
    }


def _socket(node: dict, name: str, of: str, widgets: list[str]) -> int:
    """The index of an input of a node; a new one for a widget, which keeps its value, and for a younger input."""
    names = [item["name"] for item in node["inputs"]]
    if name not in names:
        widget = {"widget": {"name": name}} if name in widgets else {}
        node["inputs"].append({"name": name, "type": of, **widget, "link": None})
        names.append(name)
    return names.index(name)
