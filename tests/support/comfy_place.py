"""Paths of ComfyUI and its Python, for the tests marked `comfy`."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Large tensors are taken from memory that is kept, not mapped anew each time: at true size, with pictures of 8 × 8
# latents, most of a convolution's time goes into fresh pages for its weights in another order. For glibc alone.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def comfy_folder() -> Path:
    folder = Path(os.environ.get("COMFYUI_DIR", "~/ComfyUI")).expanduser()
    if not (folder / "main.py").is_file():
        reason = f"NO COMFYUI at {folder}: the nodes are NOT TESTED. Put ComfyUI there or set COMFYUI_DIR."
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return folder


def comfy_environment() -> dict[str, str]:
    """Environment variables of processes that compute with networks of true size."""
    return os.environ | HEAP


def comfy_python(folder: Path) -> str:
    choices = [os.environ.get("COMFYUI_PYTHON"), folder / "venv/bin/python", folder / ".venv/bin/python"]
    python = next((str(p) for p in choices if p and Path(p).exists()), sys.executable)
    # as ComfyUI-Manager does when it installs a pack
    needs = "import matplotlib"
    if subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        command = [python, "-m", "pip", "install", "-q", "-r", str(ROOT / "requirements.txt")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(
                f"ComfyUI's Python lacks this pack's requirements, and `{' '.join(command)}` failed:\n{done.stderr}"
            )
    return python
