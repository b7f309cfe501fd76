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
    reported_s = clock()
    begun: tuple[float, int] | None = None  # when something was told first, and how much was done then
    grown = reported_s, 0  # when more was done for the last time, and how much

    def on_progress(done: int, total: int) -> None:
        nonlocal reported_s, begun, grown
        now_s = clock()
        begun = begun or (now_s, done)
        if done > grown[1]:
            grown = now_s, done
        if now_s - reported_s < PLAIN_EVERY_S or done < 1 or total < 1:
            return
        reported_s = now_s
        # no counts: their unit may be parts of frames
        print(f"{name}: {done * 100 // total} %{_left(begun, grown, total - done, now_s)}", file=sys.stderr)

    return on_progress


def _left(begun: tuple[float, int], grown: tuple[float, int], remaining: int, now_s: float) -> str:
    """The time left, in words; nothing before anything was done.

    What was done before it was told first, as by an earlier run, took no time; and while a step lasts, less is left.

    Args:
        begun: when something was told first, seconds, and how much was done then.
        grown: when more was done for the last time, and how much.
        remaining: how much is not done.
        now_s: seconds.
    """
    done = grown[1] - begun[1]
    if done < 1:
        return ""
    step_s = (grown[0] - begun[0]) / done
    left_s = max(step_s * (remaining - 1), step_s * remaining - (now_s - grown[0]))
    return f", {max(left_s, 0):.0f} s left"
