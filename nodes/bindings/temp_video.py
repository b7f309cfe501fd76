"""Video files that nodes give as VIDEO: in ComfyUI's temporary folder, removed once ComfyUI has let go of them.

ComfyUI empties that folder when it starts, and may run for weeks. A file is removed at the earliest while the prompt
after the one in which its VIDEO was let go of makes a video of its own: within a prompt, what another node made of the
VIDEO may still read the file.
"""

from __future__ import annotations

import logging
import uuid
import weakref
from pathlib import Path

from .paths import temp_folder
from .progress import current_prompt

log = logging.getLogger(__name__)

_unused: dict[Path, str | None] = {}  # files without a VIDEO, and the prompt in which it was let go of


def new_temp_video() -> Path:
    """A name for a video in the temporary folder that no other run uses; unused ones of earlier prompts are removed."""
    prompt = current_prompt()
    for path in [path for path, freed_in in _unused.items() if freed_in != prompt]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # Windows: somebody still reads it
            log.info("the temporary video %s stays until later: %s.", path, error)
        else:
            del _unused[path]
    return temp_folder() / f"portraittalk_{uuid.uuid4().hex[:12]}.mp4"


def temp_video(path: Path) -> object:
    """A VIDEO of a file from `new_temp_video`, which is removed some time after ComfyUI has let go of the VIDEO."""
    from comfy_api.input_impl import VideoFromFile

    video = VideoFromFile(str(path))
    weakref.finalize(video, _release, path).atexit = False
    return video


def video_ui(path: Path, text: str) -> dict:
    """What a node shows of a video from `new_temp_video`: the video, where ComfyUI can show one, and a line of text."""
    from comfy_api.latest import io, ui

    node_ui = ui.PreviewText(text).as_dict()
    if hasattr(ui, "PreviewVideo"):
        node_ui |= ui.PreviewVideo([ui.SavedResult(path.name, "", io.FolderType.temp)]).as_dict()
    return node_ui


def _release(path: Path) -> None:
    _unused[path] = current_prompt()
