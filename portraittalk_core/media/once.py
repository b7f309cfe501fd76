"""Warnings about a file that are said once, however often it is read."""

from __future__ import annotations

import functools
import logging


def warn_once(log: logging.Logger, text: str, *args: object) -> None:
    """Log a warning unless this process has logged the same one before."""
    _warn(log, text % args)


@functools.lru_cache(maxsize=1024)
def _warn(log: logging.Logger, text: str) -> None:
    log.warning("%s", text)
