"""ComfyUI's progress bar, preview and interrupt as the core's progress callbacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from ...portraittalk_core.face.mesh.landmarks import MeshBackend

PREVIEW_EVERY_S = 0.25  # showing a picture costs more than drawing one: not for every frame
BAR_EVERY_S = 0.04
PREVIEW_PX = 512

T = TypeVar("T")


class Progress:
    """Progress callback of (done, total); raises where the user pressed Interrupt."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1)
        self._preview: Tensor | None = None
        self._moved_at = self._shown_at = 0.0

    def __call__(self, done: int, total: int) -> None:
        check_interrupted()
        now = time.monotonic()
        if done < total and now - self._moved_at < BAR_EVERY_S:
            return
        self._moved_at = now
        due = self._preview is not None and (done >= total or now - self._shown_at >= PREVIEW_EVERY_S)
        self._shown_at = now if due else self._shown_at
        self._bar.update_absolute(done, total, self._as_jpeg() if due else None)

    def show(self, picture: Tensor) -> None:
        """Set the (H, W, 3) uint8 picture of the next preview."""
        self._preview = picture

    def _as_jpeg(self) -> tuple:
        from PIL import Image

        return ("JPEG", Image.fromarray(self._preview.numpy()), PREVIEW_PX)


class InterruptibleMesh:
    """A face-mesh back end that can be interrupted between detections: a large picture takes many."""

    def __init__(self, mesh: MeshBackend) -> None:
        self._mesh, self.name = mesh, mesh.name

    def detect(self, picture: Tensor) -> Tensor:
        """The back end's detection; raises where the user pressed Interrupt."""
        check_interrupted()
        return self._mesh.detect(picture)


@contextmanager
def face_mesh(notes: bool = False) -> Iterator[InterruptibleMesh]:
    """An open face-mesh back end that can be interrupted; warnings of faces meanwhile are shown on the running node.

    Args:
        notes: show notes too, such as which of several faces was taken.
    """
    from ...portraittalk_core.face.mesh.landmarks import log, open_mesh

    shown = MessagesOnNode(logging.INFO if notes else logging.WARNING)
    log.addHandler(shown)
    try:
        with open_mesh() as mesh:
            yield InterruptibleMesh(mesh)
    finally:
        log.removeHandler(shown)


class MessagesOnNode(logging.Handler):
    """Shows messages of the log as text on the node that runs in this thread.

    Args:
        level: of the log, from which a message is shown.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._thread, self._texts = threading.get_ident(), []

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message below those before it."""
        if record.thread == self._thread:
            self._texts.append(record.getMessage())
            show_text(_running_node(), "\n".join(self._texts))


def _running_node() -> str | None:
    """Number of the node that ComfyUI runs in this thread; None outside, and where a ComfyUI does not tell."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return None
    context = get_executing_context()
    return None if context is None else context.node_id


def check_interrupted() -> None:
    """Raise if the user pressed Interrupt."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def counted(items: Iterable[T], total: int, on_progress: Callable[[int, int], None]) -> Iterator[T]:
    """The items, with a progress callback after each."""
    for done, item in enumerate(items, 1):
        yield item
        on_progress(min(done, total), total)


def current_prompt() -> str | None:
    """The prompt that ComfyUI works on."""
    from server import PromptServer

    return getattr(PromptServer.instance, "last_prompt_id", None)


def show_text(node_id: str | None, text: str) -> None:
    """Show a line of text on the node while and after it runs."""
    from server import PromptServer

    if node_id is not None and hasattr(PromptServer.instance, "send_progress_text"):
        PromptServer.instance.send_progress_text(text, node_id)
