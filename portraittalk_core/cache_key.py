"""Cache keys: SHA-256 of settings and of files' contents."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

READ_BYTES = 2**22


def cache_key(settings: object, default: Callable[[object], object] = str) -> str:
    """SHA-256 of settings as JSON with sorted keys.

    Args:
        settings: what the kept result depends on: JSON's types, and others by `default`.
        default: turns another type into one of JSON's; the result must not hold addresses.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=default).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits; READ_BYTES of it are in memory at a time.

    Raises:
        OSError: it cannot be read, or is a device or pipe, which may have no end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is no file that could be read to its end")
    read, digest = bytearray(READ_BYTES), hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(read):
            digest.update(memoryview(read)[:count])
    return digest.hexdigest()
