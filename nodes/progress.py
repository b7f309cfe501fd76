"""ComfyUI's progress bar, preview and interrupt as the callbacks the core takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import Tensor

PREVIEW_EVERY = 8  # frames
PREVIEW_PX = 512

T = TypeVar("T")


class Progress:
    """Called with (done, total); stops the run by raising where the user pressed Interrupt."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1)
        self._preview: Tensor | None = None

    def __call__(self, done: int, total: int) -> None:
        check_interrupted()
        # Showing a picture costs more than drawing one: not for every frame.
        due = self._preview is not None and (done % PREVIEW_EVERY == 1 or done == total)
        self._bar.update_absolute(done, total, self._as_jpeg() if due else None)

    def show(self, picture: Tensor) -> None:
        """Remember the (H, W, 3) uint8 picture that the next preview shows."""
        self._preview = picture

    def _as_jpeg(self) -> tuple:
        from PIL import Image

        return ("JPEG", Image.fromarray(self._preview.numpy()), PREVIEW_PX)


def check_interrupted() -> None:
    """Raise if the user pressed Interrupt."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def counted(items: Iterable[T], total: int, on_progress: Callable[[int, int], None]) -> Iterator[T]:
    """The items, with progress after each."""
    for done, item in enumerate(items, 1):
        yield item
        on_progress(min(done, total), total)
