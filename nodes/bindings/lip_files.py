"""Files of lip renderers in ComfyUI's models folder, known by their content, and the names that lists show."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import folder_paths

from ...portraittalk_core.checks import abbreviated
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.lip.files import IPLAP, LIPS, MUSETALK, SOURCES, family_of
from ...portraittalk_core.renderers.lip.options import BUILTIN
from ...portraittalk_core.weights.headers import read_shapes, shortened
from . import paths
from .keypoint_files import weights_in

FAMILIES = (LIPS, IPLAP, MUSETALK)
FOLDERS = ("portraittalk", "iplap", "musetalk")  # of the models folder
HOMES = {LIPS: "portraittalk", IPLAP: "iplap", MUSETALK: "musetalk"}  # where messages send people
AUTO = "auto"  # the first file of the family; of what goes with it, what lies beside


def file_names(family: str) -> list[str]:
    """Files of a family, as names for a list."""
    names = [path.relative_to(root).as_posix() for root, path in _files() if _family(path) == family]
    return list(dict.fromkeys(names))


def file_path(name: str, family: str) -> Path:
    """The file of a name from `file_names`; AUTO is the family's first one, or the package's own.

    Raises:
        InputError: it is not there, or not inside these folders.
    """
    if name == AUTO:
        path = next((file for _, file in _files() if _family(file) == family), None)
        if path is not None:
            return path
        if family == LIPS:
            return BUILTIN
        raise InputError(
            f"there is no file of the lip renderer {family} in models/{HOMES[family]}: get {SOURCES[family]}, and put "
            "it there."
        )
    folders = [root for kind in FOLDERS for root in paths.model_folders(kind)]
    return paths.file_in(folders, name, f"the lip renderer's file {abbreviated(name)} is not in models/{HOMES[family]}")


def vae_names() -> list[str]:
    """Files in ComfyUI's vae folder."""
    return folder_paths.get_filename_list("vae")


def vae_path(name: str) -> Path | None:
    """The file of a name from `vae_names`; None of AUTO.

    Raises:
        InputError: it is not there.
    """
    if name == AUTO:
        return None
    path = folder_paths.get_full_path("vae", name) if name in vae_names() else None
    if path is None:
        raise InputError(f"the VAE {abbreviated(name)} is not in models/vae; put it there or choose another.")
    return Path(path)


def encoder_path(name: str) -> Path | None:
    """The file of a speech encoder; None of AUTO.

    Raises:
        InputError: it is not there.
    """
    return None if name == AUTO else paths.encoder_path(name)


def _files() -> list[tuple[Path, Path]]:
    """Weight files that may be a lip renderer's, each with the folder that its name begins in."""
    return [(root, path) for kind in FOLDERS for root in paths.model_folders(kind) for path in weights_in(root)]


def _family(path: Path) -> str | None:
    return _family_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _family_of(path: Path, changed: int) -> str | None:  # noqa: ARG001 - a changed file is looked at again
    return family_of({shortened(name.split(".")): shape for name, shape in read_shapes(path).items()})
