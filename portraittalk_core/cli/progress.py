"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ..progress import Progress

PLAIN_EVERY_S = 5.0  # a log file gets one line in this time


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """Yield an `on_progress(done, total)` that shows `name`, the share done and the time left."""
    if sys.stderr.isatty() and find_spec("rich"):
        with _rich_bar(name) as on_progress:
            yield on_progress
    else:
        yield plain_progress(name)


@contextmanager
def _rich_bar(name: str) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def plain_progress(name: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    """An `on_progress` that writes one line to stderr every PLAIN_EVERY_S seconds.

    Args:
        name: what is being done.
        clock: seconds that only grow.
    """
    started_s = reported_s = clock()

    def on_progress(done: int, total: int) -> None:
        nonlocal reported_s
        now_s = clock()
        if now_s - reported_s < PLAIN_EVERY_S or done < 1 or total < 1:
            return
        reported_s = now_s
        remaining_s = (now_s - started_s) * max(total - done, 0) / done
        # no counts: their unit may be parts of frames
        print(f"{name}: {done * 100 // total} %, {remaining_s:.0f} s left", file=sys.stderr)

    return on_progress
