"""Writes locales/en/nodeDefs.json from a running ComfyUI's object_info; the texts stand in nodes/*.py.

python tools/make_locale.py http://127.0.0.1:8188
The other languages are translated by hand; the tests say which texts they lack.
"""

import json
import sys
import urllib.request
from pathlib import Path

LOCALES = Path(__file__).parents[1] / "locales"


def node_texts(object_info: dict) -> dict:
    """The texts of this pack's nodes in ComfyUI's locale format: inputs by id, outputs by number."""
    texts = {}
    for name, node in sorted(object_info.items()):
        if not name.startswith("PortraitTalk"):
            continue
        outputs = enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
        texts[name] = {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {key: {"name": key, "tooltip": spec[1]["tooltip"]} for key, spec in input_specs(node).items()},
            "outputs": {str(number): {"name": title, "tooltip": tip} for number, (title, tip) in outputs},
        }
    return texts


def input_specs(node: dict) -> dict:
    """Inputs of a node; the plain sockets that stand for one that grows, pictures.picture0 and so on, as that one."""
    specs = node["input"].get("required", {}) | node["input"].get("optional", {})
    return {key.split(".")[0]: spec for key, spec in specs.items()}


def main() -> None:
    """Write the English texts."""
    with urllib.request.urlopen(f"{sys.argv[1]}/object_info") as answer:
        texts = node_texts(json.load(answer))
    path = LOCALES / "en" / "nodeDefs.json"
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
