"""Writes workflows/*.json and subgraphs/*.json, as ComfyUI's page saves them, from short descriptions of the graphs.

A graph, its boxes, its form and what it needs lie together in one of MODULES; the nodes that several graphs use lie in
workflow_nodes.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import blueprints
import edit_workflow
import everything_workflow
import keypoint_workflow
import lip_workflows
import portrait_workflows
import score_workflows
import style_workflow
import vexpress_workflow
import video_workflows
import workflow_nodes
from workflow_json import form, workflow_json

ROOT = Path(__file__).parents[1]
MODULES = (
    *(portrait_workflows, video_workflows, style_workflow, score_workflows, vexpress_workflow, keypoint_workflow),
    *(lip_workflows, everything_workflow, edit_workflow),
)


def joined(table: str) -> dict:
    """The rows of a table that modules of workflows may have, such as KINDS."""
    return {name: row for module in MODULES for name, row in getattr(module, table, {}).items()}


def written() -> Iterator[tuple[str, str, dict]]:
    """Folder, name and content of every file."""
    kinds, graphs = workflow_nodes.KINDS | joined("KINDS"), joined("GRAPHS")
    groups, models, switched_off, forms = (joined(table) for table in ("GROUPS", "MODELS", "SWITCHED_OFF", "FORMS"))
    for name, graph in graphs.items():
        extra = form(graph, forms[name]) if name in forms else {}
        needed = workflow_nodes.MODELS | models.get(name, {})
        content = workflow_json(graph, kinds, needed, groups.get(name, ()), switched_off.get(name, ()), extra)
        yield "workflows", name, content
    for blueprint in blueprints.of(graphs):
        inner = workflow_json(blueprint.nodes, kinds, workflow_nodes.MODELS | models["keypoint_portrait"])
        yield "subgraphs", blueprint.name, blueprints.as_json(blueprint, inner)


def main() -> None:
    """Write all workflows and subgraph blueprints."""
    for folder, name, content in written():
        path = ROOT / folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
