"""From ComfyUI's folders and names to paths."""

from __future__ import annotations

import uuid
from pathlib import Path

import folder_paths

from ..portraittalk_core.errors import InputError

SUFFIX = ".safetensors"


def temp_folder() -> Path:
    """ComfyUI's folder for files that live until it restarts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_temp_video() -> Path:
    """A name for a video in the temporary folder that no other run uses."""
    return temp_folder() / f"portraittalk_{uuid.uuid4().hex[:12]}.mp4"


def new_output(prefix: str) -> tuple[Path, str, str]:
    """Path for the next numbered track in the output folder, its name, and its folder within the output folder."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    file = f"{name}_{counter:05}_{SUFFIX}"
    return Path(folder) / file, file, subfolder


def track_names() -> list[str]:
    """Track files in the input folder, then in the output folder, as names for a list."""
    names = []
    for kind, folder in (("", folder_paths.get_input_directory()), (" [output]", folder_paths.get_output_directory())):
        root = Path(folder)
        names += sorted(f"{path.relative_to(root).as_posix()}{kind}" for path in root.rglob(f"*{SUFFIX}"))
    return names


def track_path(name: str) -> Path:
    """The file of a name from `track_names`.

    Raises:
        InputError: it is not there, or not inside ComfyUI's folders.
    """
    path = Path(folder_paths.get_annotated_filepath(name)).resolve()
    roots = (folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.get_temp_directory())
    if not any(path.is_relative_to(Path(root).resolve()) for root in roots):
        raise InputError(
            f"{name} lies outside ComfyUI's input and output folders; put the track file into one of them."
        )
    if not path.is_file():
        raise InputError(f"the landmark file {name} is not there; choose one from the list or save one first.")
    return path
