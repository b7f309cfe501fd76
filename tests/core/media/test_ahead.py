import threading
import time

import pytest

from portraittalk_core.media.ahead import AHEAD, read_ahead


def counted(stop: int, made: list, closed: threading.Event, fails: bool = False):
    try:
        for number in range(stop):
            made.append((number, threading.get_ident()))
            yield number
        if fails:
            raise ValueError("broken at its end")
    finally:
        closed.set()


def test_all_items_come_in_their_order_from_another_thread():
    made, closed = [], threading.Event()
    assert list(read_ahead(counted(50, made, closed))) == list(range(50))
    assert {thread for _, thread in made} != {threading.get_ident()} and closed.is_set()


def test_an_error_is_raised_behind_the_items_before_it():
    closed = threading.Event()
    items = read_ahead(counted(3, [], closed, fails=True))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="broken at its end"):
        next(items)
    assert closed.is_set()


def test_it_runs_ahead_by_a_few_only_and_stops_when_unwanted():
    made, closed = [], threading.Event()
    items = read_ahead(counted(1000, made, closed))
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= AHEAD + 2
    items.close()
    assert closed.is_set() and len(made) <= AHEAD + 3
