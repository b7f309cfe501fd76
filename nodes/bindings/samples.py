"""The pack's sample portrait, speech and films in ComfyUI's input folder, where the shipped workflows look for them.

ComfyUI's own loaders list the files of the input folder and nothing else, and its page refuses to run a workflow that
names a file outside that list. With the samples there, every workflow opens without an error on any version, and those
that need no weights run at once. Where they were placed is noted in ComfyUI's user folder: a sample that somebody
deletes does not come back.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ...portraittalk_core.errors import OutputError
from ...portraittalk_core.media.files import atomic_write

FOLDER = Path(__file__).parents[2] / "samples"
# names in the input folder: files of the pack
SAMPLES = {
    "portraittalk_portrait.jpg": "portrait.jpg",
    "portraittalk_speech.wav": "speech.wav",
    "portraittalk_film.mp4": "film.mp4",
    "portraittalk_generated.mp4": "generated.mp4",
}


def offer_samples() -> list[str]:
    """Copy the samples that ComfyUI's input folder lacks; the names of those copied.

    A file of that name that is already there is left as it is, and one that was there before and was deleted is not
    copied again. A folder that cannot be written is told in the log: the nodes work without samples.
    """
    copied = []
    try:
        folder, placed = Path(folder_paths.get_input_directory()), _placed()
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in SAMPLES.items():
            is_there, path = os.path.lexists(folder / name), _written(folder / name)
            if not is_there and path not in placed and (FOLDER / source).is_file():
                with atomic_write(folder / name) as part:
                    shutil.copyfile(FOLDER / source, part)
                copied.append(name)
                is_there = True
            if is_there and path not in placed:
                placed.append(path)
                _keep(placed)
    except (OSError, OutputError) as error:
        logging.getLogger(__name__).warning(
            "PortraitTalk's samples were not copied to ComfyUI's input folder: %s", error
        )
    return copied


def _note() -> Path:
    """The file that says where samples were placed, in ComfyUI's user folder."""
    return Path(folder_paths.get_user_directory()) / "portraittalk" / "samples.txt"


def _written(path: Path) -> str:
    """A path as the note has it."""
    return os.path.abspath(path).encode("utf-8", "backslashreplace").decode()


def _placed() -> list[str]:
    """Paths in the note; none where there is no note, or one that cannot be read."""
    try:
        return _note().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _keep(paths: list[str]) -> None:
    _note().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(_note()) as part:
        part.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
