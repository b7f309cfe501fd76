"""A stream that is read twice."""

import weakref

import pytest

from portraittalk_core.media.tee import tee


class Item:
    def __init__(self, number):
        self.number = number


def test_both_readers_see_everything_and_nothing_is_kept():
    alive = []

    def items():
        for number in range(200):
            item = Item(number)
            alive.append(weakref.ref(item))
            yield item
            del item

    first, second = tee(items())
    seen = []
    for item in first:
        other = next(second)
        assert other is item
        seen.append(item.number)
        del item, other
        assert sum(ref() is not None for ref in alive) <= 2
    assert seen == list(range(200)) and next(second, None) is None


def test_readers_may_run_ahead_in_turn():
    first, second = tee(iter("abcd"))
    assert [next(first), next(first), next(second)] == ["a", "b", "a"]
    assert list(second) == ["b", "c", "d"] and list(first) == ["c", "d"]


def test_an_error_of_the_stream_reaches_the_reader():
    def broken():
        yield 1
        raise ValueError("broken")

    first, second = tee(broken())
    assert next(first) == 1
    with pytest.raises(ValueError, match="broken"):
        next(first)
    assert list(second) == [1]
