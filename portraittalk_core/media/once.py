"""Warnings about a file that are said once, however often it is read."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

_job: list[Callable[[], object]] = []  # what names the job at hand, if anything does


def warn_once(log: logging.Logger, text: str, *args: object) -> None:
    """Log a warning unless the same one was logged before: in this job, or in this process where nothing names jobs."""
    _warn(log, text % args, _job[-1]() if _job else None)


def once_in_each(job: Callable[[], object] | None) -> None:
    """Let warnings be said once in each job of a process that runs many, such as ComfyUI's prompts.

    Args:
        job: gives the name of the job at hand; None: there is one job alone.
    """
    _job[:] = [] if job is None else [job]


@functools.lru_cache(maxsize=1024)
def _warn(log: logging.Logger, text: str, job: object) -> None:
    log.warning("%s", text)
