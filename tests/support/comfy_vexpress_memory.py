"""Run by ComfyUI's own Python: V-Express's networks when ComfyUI takes their memory, between runs and within one.

python comfy_vexpress_memory.py COMFYUI PACK FOLDER: FOLDER holds V-Express's files; what was seen is printed as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(comfyui: Path, pack: Path, folder: Path) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path[:0] = [str(comfyui), str(pack.parent)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    binding = importlib.import_module(f"{pack.name}.nodes.bindings.vexpress")
    core = f"{pack.name}.portraittalk_core.renderers.vexpress.pipeline"
    options = importlib.import_module(core).VExpressOptions(width=64, height=64)
    files = sorted(folder.iterdir())

    def size(patcher) -> int:
        return sum(weight.numel() for weight in patcher.model.parameters())

    patcher = binding.managed_networks(folder, files)
    parts, full_size = patcher.model.parts, size(patcher)
    binding.load_to_device([patcher], parts, options)
    again = binding.managed_networks(folder, files) is patcher
    comfy.model_management.unload_all_models()  # as a VAE may have it that needs room
    taken = size(patcher)
    binding.load_to_device([patcher], parts, options)
    brought = size(patcher)
    comfy.model_management.unload_all_models()
    anew = binding.managed_networks(folder, files)
    results = {"whole": full_size, "again": again, "taken": taken, "brought": brought, "anew": size(anew)}
    results["another"] = anew is not patcher
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
