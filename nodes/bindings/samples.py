"""The pack's sample portrait, speech and films in ComfyUI's input folder, where the shipped workflows look for them.

ComfyUI's own loaders list the files of the input folder and nothing else, and its page refuses to run a workflow that
names a file outside that list. With the samples there, every workflow opens without an error on any version, and those
that need no weights run at once.
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

    A file of that name that is already there is left as it is. A folder that cannot be written is told in the log:
    the nodes work without samples.
    """
    copied = []
    try:
        folder = Path(folder_paths.get_input_directory())
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in SAMPLES.items():
            if not os.path.lexists(folder / name) and (FOLDER / source).is_file():
                with atomic_write(folder / name) as part:
                    shutil.copyfile(FOLDER / source, part)
                copied.append(name)
    except (OSError, OutputError) as error:
        logging.getLogger(__name__).warning(
            "PortraitTalk's samples were not copied to ComfyUI's input folder: %s", error
        )
    return copied
