"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError


def check_writable(path: Path) -> Path:
    """Check that a file can be made at `path`, before long work begins, and return it.

    Raises:
        OutputError: the folder is missing or not writable, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give a file name.")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} is not writable; choose another.")
    return path


def part_path(path: Path) -> Path:
    """A new empty file beside `path`, with its suffix, to be written and then renamed to it.

    Raises:
        OutputError: the folder does not take a new file.
    """
    check_writable(path)
    with explain_write_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:80]}.", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    return Path(name)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; rename it to `path` at the end, or remove it if anything went wrong.

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


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write `path` into an OutputError that says what to do."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"cannot write {path}: the disk is full; free some space or choose another.") from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
