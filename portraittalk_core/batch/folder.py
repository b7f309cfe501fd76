"""The output folder of a batch: locked while a batch runs, and rid of what killed ones left half written."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError
from ..media.files import explain_write_errors, unfinished_files
from .jobs import FINISHED
from .report import PAGES

log = logging.getLogger(__name__)

LOCK = ".batch.lock"  # no output of a job begins so
LOCKED_BYTE = 1 << 30  # Windows locks bytes, and nobody may read those; the text lies before it
MAX_TEXT = 1000  # bytes of a lock's text that are read
ABANDONED_S = 3600.0  # a half-written file of another program counts as left behind when it is untouched for so long
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, and hold it for one batch alone.

    The lock is the operating system's, which frees it when its process ends, however it ends. A folder that was not
    there and is left empty is removed again.

    Raises:
        InputError: another batch holds it.
        OutputError: it cannot be made or written to.
    """
    folder = Path(folder)
    with explain_write_errors(folder):
        existed = folder.is_dir()
        folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _take(folder)
        try:
            yield
        finally:
            _free(lock, folder / LOCK)
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # it holds results
                folder.rmdir()


def _take(folder: Path) -> int:
    """File descriptor of the folder's lock."""
    path = folder / LOCK
    with explain_write_errors(path):
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _lock(lock):
                    raise InputError(
                        f"another batch makes its results in {folder} ({_holder(lock)}); both would do the same work "
                        "and mix their tables. Wait until it has ended, stop it, or give another folder."
                    )
                if _is_at(lock, path):
                    os.ftruncate(lock, 0)
                    os.write(lock, json.dumps(_self()).encode())
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)  # its holder ended between our opening and locking, and removed it


def _free(lock: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()  # before others can take it; Windows removes no open file
    os.close(lock)
    if os.name == "nt":
        with contextlib.suppress(OSError):
            path.unlink()


def _lock(file: int) -> bool:
    """Lock an open file for this process; False if another has it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        log.warning("the output folder cannot be locked (%s); run one batch at a time in it.", error.strerror)
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _self() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _holder(file: int) -> str:
    """Who holds a lock, in words."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        record = json.loads(os.read(file, MAX_TEXT))
        text = f"process {record['pid']} on {record['host']}, since {record['since']}"
        return text if text.isprintable() else "which does not say where it runs"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written it yet
        return "which began just now"


def remove_left_behind(folder: Path, is_output: Callable[[str], bool]) -> int:
    """Remove what killed batches left half written; only while the folder is locked.

    Args:
        folder: of the results.
        is_output: whether a name, of which the first 40 letters before the ending count, is an output of this batch.
            Of other names, which another program may be writing just now, only what is long untouched is removed.

    Returns:
        How many files were removed.
    """
    count = 0
    for place in (folder, folder / FINISHED, folder / PAGES):
        for path, stem in unfinished_files(place):
            with contextlib.suppress(OSError):  # gone meanwhile, or of somebody else
                if place != folder or is_output(stem) or time.time() - path.stat().st_mtime > ABANDONED_S:
                    path.unlink()
                    count += 1
    return count
