"""Paths and files: what is read exists and is sound or video, what is written appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer

from ..errors import MediaError, OutputError

MIN_FREE_BYTES = 64 * 1024  # less than this holds no result worth starting for
_FULL = (errno.ENOSPC, errno.EDQUOT)
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


def check_writable(path: Path) -> Path:
    """Check that a file can be made at `path`, before long work begins, and return it.

    Raises:
        OutputError: the folder is missing, not writable or on a full disk, or `path` is no place for a file.
    """
    path = Path(path)
    with explain_write_errors(path):  # a name that is too long raises at the first access
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; give a file name.")
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is a device or pipe; give the name of a file.")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first.")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"cannot write {path}: the folder {path.parent} is not writable; choose another.")
        disk = shutil.disk_usage(path.parent)
        if disk.total and disk.free < MIN_FREE_BYTES:  # what is no disk, such as /proc, has no size
            raise OSError(errno.ENOSPC, "no space left")
    return path


def part_path(path: Path) -> Path:
    """A new empty file beside `path`, with its suffix, to be written and then renamed to it.

    Raises:
        OutputError: the folder does not take a new file.
    """
    path = check_writable(path)
    part = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.part{path.suffix}")
    with explain_write_errors(path):
        # Not tempfile: its files are readable by their owner only, and so would be the result.
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return part


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context of a temporary file that is renamed to `path` at the end, or removed on an error.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    part = part_path(path)
    try:
        with explain_write_errors(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def disk_full_message(path: Path) -> str:
    """Message about a full disk with its free space; a quota may be what is full."""
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError:
        return "the disk is full"
    return f"the disk is full ({free / 2**20:.1f} MB are free in {Path(path).resolve().parent})"


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Convert write errors of the system or of FFmpeg for `path` to an OutputError that says what to do."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, av.FFmpegError) as error:
        if error.errno in _FULL:
            raise OutputError(
                f"cannot write {path}: {disk_full_message(path)}; free some space or choose another."
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"cannot write {path}: the name is too long; choose a shorter one.") from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
