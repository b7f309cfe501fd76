"""Progress and cancellation within a batch of frames: networks report every part of theirs that begins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from torch import nn

from ...progress import Progress

STEPS = 100  # progress steps of one frame
PERIOD_S = 0.1  # at least so long between two reports
DEPTH = 3  # of the parts that report: finer ones would cost time


class FrameProgress:
    """Counts frames, and parts of the networks within a batch, into one `on_progress`.

    Args:
        on_progress: called with steps done and in all; may raise to stop. None is nobody.
        total: frames in all.
    """

    def __init__(self, on_progress: Progress | None, total: int) -> None:
        self._on_progress, self._total = on_progress, total
        self._done = self._begun = self._parts = self._usual = 0
        self._reported_s = 0.0

    def begin(self, frames: int) -> None:
        """A batch of so many frames begins."""
        self._begun, self._parts = frames, 0

    def part(self) -> None:
        """A part of a network begins."""
        self._parts += 1
        if self._on_progress is None or time.monotonic() - self._reported_s < PERIOD_S:
            return
        self._reported_s = time.monotonic()
        # how many parts a batch has is known from the one before
        share = min(self._parts / self._usual, 1.0) if self._usual else 0.0
        steps = int(STEPS * (self._done + self._begun * share))
        self._on_progress(min(steps, STEPS * self._total - 1), STEPS * self._total)

    def end(self) -> None:
        """The batch is rendered."""
        self._usual = self._parts or self._usual

    def frame(self) -> None:
        """A frame has left the renderer."""
        self._done += 1
        self._begun = self._parts = 0
        if self._on_progress is not None:
            self._on_progress(STEPS * self._done, STEPS * self._total)


@contextlib.contextmanager
def reporting(networks: object, progress: FrameProgress) -> Iterator[None]:
    """Let the parts of networks report while the context is open; what torch compiles reports nothing.

    Args:
        networks: a module, or an object whose attributes are modules.
        progress: what they report to.
    """
    hooks = []
    try:
        for module in modules_of(networks):
            if module._compiled_call_impl is None:  # noqa: SLF001 - torch says it nowhere else
                hooks += [part.register_forward_pre_hook(lambda *_: progress.part()) for part in _parts(module, DEPTH)]
        yield
    finally:
        for hook in hooks:
            hook.remove()


def modules_of(networks: object) -> list[nn.Module]:
    """The networks of a keypoint model: its children, or its attributes that are modules."""
    if isinstance(networks, nn.Module):
        return list(networks.children())
    return [value for value in getattr(networks, "__dict__", {}).values() if isinstance(value, nn.Module)]


def _parts(module: nn.Module, depth: int) -> Iterator[nn.Module]:
    yield module
    for child in module.children() if depth else ():
        yield from _parts(child, depth - 1)
