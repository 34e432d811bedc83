"""`one_ahead`: the same items, one of which a thread makes ahead."""

import threading
from collections.abc import Iterator

import pytest

from dpt_ray.data.loading.one_ahead import one_ahead


def test_the_items_are_the_same_and_nothing_may_be_there():
    assert list(one_ahead(iter(range(100)))) == list(range(100))
    assert list(one_ahead(iter([]))) == []


def test_the_next_item_is_made_while_the_caller_works_and_no_further_one():
    made: list[int] = []
    is_made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(is_made):
            made.append(number)
            event.set()
            yield number

    ahead = one_ahead(items())
    assert next(ahead) == 0
    assert is_made[1].wait(30)  # no one has asked for it yet
    assert made == [0, 1]
    assert list(ahead) == [1, 2, 3]


def test_an_error_is_raised_in_its_turn():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_a_caller_that_stops_early_leaves_no_thread():
    before = set(threading.enumerate())
    ahead = one_ahead(iter(range(100)))
    next(ahead)
    ahead.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
