"""Folders of keypoint networks and files of Audio2Exp in ComfyUI's models folder, and the names that lists show."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...portraittalk_core.checks import abbreviated
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.implicit.file_layouts import sorted_names
from ...portraittalk_core.renderers.implicit.files import INNER_FOLDERS
from ...portraittalk_core.weights.headers import read_shapes
from ...portraittalk_core.weights.repositories import LIVEPORTRAIT_SAFETENSORS
from . import paths

FOLDERS = ("liveportrait", "controltalk", "portraittalk")  # of the models folder
DEFAULT = f"models/{FOLDERS[0]}"
DEPTH = 2  # folders below these that are searched: LivePortrait's own repository has base_models and retargeting_models
WEIGHTS = (*paths.WEIGHTS, ".tar")


def network_names() -> list[str]:
    """Folders that hold keypoint networks, as names for a list; where people have LivePortrait's comes first."""
    names = [name for name, folder in _folders() if name != DEFAULT and _holds_networks(folder)]
    return [DEFAULT, *dict.fromkeys(names)]


def network_folder(name: str) -> Path:
    """The folder of a name from `network_names`.

    Raises:
        InputError: it is not there, not one of these folders, or holds no weights.
    """
    for kind in FOLDERS:
        if not f"{name}/".startswith(f"models/{kind}/"):
            continue
        for root in paths.model_folders(kind):
            folder = (root / name.removeprefix(f"models/{kind}").lstrip("/")).resolve()
            if folder.is_relative_to(root.resolve()) and folder.is_dir() and weights_in(folder):
                return folder
    raise InputError(
        f"there are no keypoint networks in {name}; put LivePortrait's five files (huggingface.co/"
        f"{LIVEPORTRAIT_SAFETENSORS}) into models/liveportrait, or ControlTalk's checkpoint into models/controltalk."
    )


def weights_in(folder: Path) -> list[Path]:
    """The weight files in a folder and in those below it."""
    levels = ("*", "*/*", "*/*/*")[: DEPTH + 1]
    files = [path for level in levels for path in folder.glob(level) if path.suffix in WEIGHTS and path.is_file()]
    return sorted(files)


def _folders() -> list[tuple[str, Path]]:
    """Folders that may hold networks, with their names."""
    return [
        ("/".join(["models", kind, *folder.relative_to(root).parts]), folder)
        for kind in FOLDERS
        for root in paths.model_folders(kind)
        if root.is_dir()
        for folder in (root, *sorted(path for level in ("*", "*/*") for path in root.glob(level) if path.is_dir()))
        if folder.name not in INNER_FOLDERS
    ]


def _holds_networks(folder: Path) -> bool:
    """Whether a file in a folder, or in those of LivePortrait's own download, belongs to a keypoint model."""
    inside = [path for place in (folder, *(folder / inner for inner in INNER_FOLDERS)) for path in place.glob("*")]
    return any(_is_network(path, path.stat().st_mtime_ns) for path in inside if path.suffix in WEIGHTS)


@lru_cache(maxsize=512)
def _is_network(path: Path, changed: int) -> bool:  # noqa: ARG001 - a changed file is looked at again
    return path.is_file() and bool(sorted_names(read_shapes(path)))


def audio2exp_names() -> list[str]:
    """Files of Audio2Exp, as names for a list."""
    from ...portraittalk_core.weights.catalog import recognise

    names = [
        path.relative_to(root).as_posix()
        for kind in FOLDERS
        for root in paths.model_folders(kind)
        for path in weights_in(root)
        if (recognised := recognise(path)) is not None and recognised.flag.startswith("--audio2exp")
    ]
    return list(dict.fromkeys(names))


def audio2exp_path(name: str) -> Path:
    """The file of a name from `audio2exp_names`.

    Raises:
        InputError: it is not there, or not inside these folders.
    """
    folders = [root for kind in FOLDERS for root in paths.model_folders(kind)]
    missing = (
        f"the Audio2Exp file {abbreviated(name)} is not in models/controltalk: ControlTalk's lipControlNet.pt, or one "
        "of portraittalk train audio2exp"
    )
    return paths.file_in(folders, name, missing)
