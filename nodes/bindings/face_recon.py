"""What measures expressions in models/portraittalk: names for a list, and their paths."""

from __future__ import annotations

import os
from pathlib import Path

from ...portraittalk_core.style.expression_source import is_expression_source
from .paths import DEPTH, WEIGHTS, file_in, weight_folders

SUFFIXES = (*WEIGHTS, ".task")


def face_recon_names() -> list[str]:
    """Files that measure expressions, and folders of a Basel Face Model, as names for a list."""
    names = []
    for root in weight_folders():
        for folder, subfolders, files in os.walk(root):
            below = Path(folder).relative_to(root)
            if len(below.parts) >= DEPTH:
                subfolders.clear()
            paths = [below] * (below != Path()) + [below / file for file in sorted(files) if file.endswith(SUFFIXES)]
            names += [path.as_posix() for path in paths if is_expression_source(root / path)]
    return list(dict.fromkeys(names))


def face_recon_path(name: str) -> Path:
    """The file or folder of a name from `face_recon_names`.

    Raises:
        InputError: it is not there, or not inside the weight folders.
    """
    for folder in weight_folders():
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and os.path.isdir(path):
            return path
    return file_in(weight_folders(), name, f"{name}, which is to measure expressions, is not in models/portraittalk")
