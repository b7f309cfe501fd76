"""Paths of files in ComfyUI's folders, and the names that lists show for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import folder_paths

from ...portraittalk_core.engines.registry import find_engines
from ...portraittalk_core.errors import InputError

SUFFIX = ".safetensors"
# folders of the models folder that users of other packs have
ADAPTERS, FACES, MOTION = "ipadapter", "insightface", "animatediff_models"
CONTENTS = {ADAPTERS: "identity adapter", MOTION: "motion module"}  # what a file in the folder is, for messages
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
MAX_NAME = 1024  # a longer text is no file's name
DEPTH = 3  # folders below input and output that are searched for tracks, at every refresh of the page


def temp_folder() -> Path:
    """ComfyUI's folder for files that live until it restarts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def unfinished_folder() -> Path:
    """Folder of interrupted jobs; not the temporary one, which ComfyUI empties when it starts."""
    return Path(folder_paths.get_user_directory()) / "portraittalk" / "unfinished"


def stamps(name: str) -> list[tuple[int, int]]:
    """Modification time (ns) and size of each file that a text may name; empty where it names none."""
    if not 0 < len(name) < MAX_NAME or "\n" in name:
        return []
    folders = [path for paths, *_ in folder_paths.folder_names_and_paths.values() for path in paths]
    folders += [path for kind in ("portraittalk", ADAPTERS, FACES, MOTION) for path in model_folders(kind)]
    candidates = {Path(folder) / name for folder in (folder_paths.get_input_directory(), *folders)}
    if folder_paths.annotated_filepath(name)[1] is not None:  # such as: name [output]
        candidates.add(Path(folder_paths.get_annotated_filepath(name)))
    try:
        stats = [path.stat() for path in sorted(candidates) if path.is_file()]
    except (OSError, ValueError):  # no name for a file, after all
        return []
    return sorted({(stat.st_mtime_ns, stat.st_size) for stat in stats})


def validated(find_files: Callable[[], object]) -> bool | str:
    """The result of a node's `validate_inputs`: True, or why a file that the node names cannot be used.

    A node that answers accepts files that appeared after its list was made.

    Args:
        find_files: looks for them; may raise InputError.
    """
    try:
        find_files()
    except ValueError as error:
        return str(error)
    return True


def fingerprint(files: Iterable[Path | None], *values: object) -> str:
    """The result of a node's `fingerprint_inputs`: a text that changes with any file or other value."""
    stats = [(path, path.stat()) for path in files if path]
    return ";".join([*(f"{path}:{stat.st_mtime_ns}:{stat.st_size}" for path, stat in stats), *map(str, values)])


def track_names() -> list[str]:
    """Track files in the input folder, then in the output folder, as names for a list."""
    folders = (("", folder_paths.get_input_directory()), (" [output]", folder_paths.get_output_directory()))
    return [f"{name}{kind}" for kind, folder in folders for name in sorted(_files_below(Path(folder)))]


def _files_below(root: Path, suffixes: tuple[str, ...] = (SUFFIX,)) -> list[str]:
    names = []
    for folder, subfolders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        if len(below.parts) >= DEPTH:
            subfolders.clear()
        names += [(below / file).as_posix() for file in files if file.endswith(suffixes) and not file.startswith(".")]
    return names


def track_path(name: str, what: str = "landmark") -> Path:
    """The file of a name from `track_names`; `what` it is to hold, for messages.

    Raises:
        InputError: it is not there, or not inside ComfyUI's folders.
    """
    path = Path(folder_paths.get_annotated_filepath(name)).resolve()
    roots = (folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.get_temp_directory())
    if not any(path.is_relative_to(Path(root).resolve()) for root in roots):
        raise InputError(
            f"{name} lies outside ComfyUI's input and output folders; put the {what} file into one of them."
        )
    if not path.is_file():
        raise InputError(f"the {what} file {name} is not there; choose one from the list or save one first.")
    return path


def weight_folders() -> list[Path]:
    """Where weights of this pack lie: models/portraittalk and what extra_model_paths.yaml adds under that name."""
    return [folder for folder in model_folders("portraittalk") if folder.is_dir()]


def engine_names() -> list[str]:
    """Motion engines in the weight folders, as names for a list."""
    names = []
    for folder in weight_folders():
        names += [engine.path.relative_to(folder).as_posix() for engine in find_engines([folder])]
    return list(dict.fromkeys(names))


def engine_path(name: str) -> Path:
    """The file of a name from `engine_names`.

    Raises:
        InputError: it is not there, or not inside the weight folders.
    """
    return file_in(weight_folders(), name, f"the motion engine {name} is not in models/portraittalk")


def model_folders(kind: str) -> list[Path]:
    """Folders of a kind of weights: models/KIND and what extra_model_paths.yaml adds under that name."""
    listed, _ = folder_paths.folder_names_and_paths.get(kind, ([], set()))
    return list(dict.fromkeys([Path(folder_paths.models_dir, kind), *map(Path, listed)]))


def weight_names(kind: str) -> list[str]:
    """Files in the folders of a kind, ADAPTERS or MOTION, as names for a list."""
    return list(dict.fromkeys(name for folder in model_folders(kind) for name in _files_below(folder, WEIGHTS)))


def weight_path(kind: str, name: str) -> Path:
    """The file of a name from `weight_names`.

    Raises:
        InputError: it is not there, or not inside the folders.
    """
    return file_in(model_folders(kind), name, f"the {CONTENTS[kind]} {name} is not in models/{kind}")


def lora_names() -> list[str]:
    """Files in ComfyUI's loras folder."""
    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    """The file of a name from `lora_names`.

    Raises:
        InputError: it is not there.
    """
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise InputError(f"the LoRA {name} is not in models/loras; put it there or choose another.")
    return Path(path)


def file_in(folders: list[Path], name: str, missing: str) -> Path:
    """The file of a name in the first of some folders that has it.

    Args:
        folders: of models.
        name: relative to one of them.
        missing: what the error says where none has it.

    Raises:
        InputError: it is not there, or not inside the folders.
    """
    for folder in folders:
        path = (folder / name).resolve()
        # pathlib's is_file raises at a name that is too long
        if path.is_relative_to(folder.resolve()) and os.path.isfile(path):
            return path
    raise InputError(f"{missing}; put it there or choose another.")


def encoder_names() -> list[str]:
    """Files in ComfyUI's audio_encoders folder; none in a ComfyUI that has no such folder."""
    has_folder = "audio_encoders" in folder_paths.folder_names_and_paths
    return folder_paths.get_filename_list("audio_encoders") if has_folder else []


def encoder_path(name: str) -> Path:
    """The file of a name from `encoder_names`.

    Raises:
        InputError: it is not there.
    """
    path = folder_paths.get_full_path("audio_encoders", name) if name in encoder_names() else None
    if path is None:
        raise InputError(f"the speech encoder {name} is not in models/audio_encoders; put it there or choose another.")
    return Path(path)


def animate_names() -> list[str]:
    """AnimateNet files in the weight folders, as names for a list."""
    from ...portraittalk_core.renderers.animatenet.animate_net_files import is_animate_net
    from ...portraittalk_core.weights.headers import read_shapes

    folders = weight_folders()
    names = [name for folder in folders for name in _files_below(folder) if is_animate_net(read_shapes(folder / name))]
    return list(dict.fromkeys(names))


def animate_path(name: str) -> Path:
    """The file of a name from `animate_names`.

    Raises:
        InputError: it is not there, or not inside the weight folders.
    """
    return file_in(weight_folders(), name, f"the AnimateNet {name} is not in models/portraittalk")


def style_names(kind: str) -> list[str]:
    """Files of a kind, "extractor" or "attention", in the weight folders, as names for a list."""
    from ...portraittalk_core.weights.load import read_metadata

    layout = f"style_{kind}"
    names = [
        name
        for folder in weight_folders()
        for name in _files_below(folder)
        if read_metadata(folder / name).get("layout") == layout
    ]
    return list(dict.fromkeys(names))


def style_path(name: str, kind: str) -> Path:
    """The file of a name from `style_names`.

    Raises:
        InputError: it is not there, or not inside the weight folders.
    """
    return file_in(weight_folders(), name, f"the style {kind} {name} is not in models/portraittalk")
