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

log = logging.getLogger(__name__)

_unused: dict[Path, str | None] = {}  # files without a VIDEO, and the prompt in which it was let go of


def new_temp_video() -> Path:
    """A name for a video in the temporary folder that no other run uses; unused ones of earlier prompts are removed."""
    prompt = _prompt()
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
    weakref.finalize(video, _let_go, path).atexit = False
    return video


def _let_go(path: Path) -> None:
    _unused[path] = _prompt()


def _prompt() -> str | None:
    """The prompt that ComfyUI works on."""
    from server import PromptServer

    return getattr(PromptServer.instance, "last_prompt_id", None)
