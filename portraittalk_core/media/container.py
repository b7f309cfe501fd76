"""Sound and video files, opened for reading."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from ..errors import MediaError

# FFmpeg takes text for a terminal recording, and single pictures for videos of one frame.
_NOT_MEDIA = ("tty", "image2", "bin", "xbin", "adf", "idf")


def check_readable(path: Path) -> Path:
    """Check that a file is there with something in it and return its path.

    Raises:
        MediaError: missing, a folder, empty, or not allowed to be read.
    """
    path = Path(path)
    try:
        if not path.is_file():
            problem = "is a folder; give a file in it" if path.is_dir() else "does not exist; check the path"
            raise MediaError(f"{path} {problem}.")
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); export it again.")
        path.open("rb").close()
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
    return path


def open_media(path: Path) -> InputContainer:
    """Open a sound or video file for reading.

    Raises:
        MediaError: missing, empty, or not a file that FFmpeg reads.
    """
    path = check_readable(path)
    try:
        # With "file:" no name is taken for an address, whatever colons it holds.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MediaError(
            f"{path} is not a sound or video file that can be read ({why}); it may be damaged or of another kind."
        ) from error
    kind = container.format.name
    if kind in _NOT_MEDIA or kind.endswith("_pipe"):
        container.close()
        content = "text" if kind == "tty" else "a picture or something else"
        raise MediaError(f"{path} is {content}, not a sound or video file; give a file such as a WAV, MP3 or MP4.")
    return container
