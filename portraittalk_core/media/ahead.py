"""Reading ahead in a thread of its own, while what was read before is worked on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
AHEAD = 2  # items that wait to be taken, at most
PATIENCE_S = 0.1  # after which a side that waits looks whether the other one is gone


def read_ahead(items: Generator[T, None, None]) -> Iterator[T]:
    """The items of a generator, which runs some items ahead in another thread.

    What it raises is raised here, in its turn. If it is no longer wanted, it is closed at its next item.
    """
    waiting: Queue[tuple[T | None, BaseException | None]] = Queue(AHEAD)
    unwanted = threading.Event()

    def offer(item: T | None, error: BaseException | None) -> None:
        while not unwanted.is_set():
            try:
                waiting.put((item, error), timeout=PATIENCE_S)
                return
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                offer(item, None)
                if unwanted.is_set():
                    return
            offer(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 - raised in the other thread
            offer(None, error)
        finally:
            items.close()

    worker = threading.Thread(target=work, name="reading ahead", daemon=True)
    worker.start()
    try:
        while True:
            try:
                item, error = waiting.get(timeout=PATIENCE_S)
            except Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        unwanted.set()
        worker.join()
