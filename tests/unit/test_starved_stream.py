"""A stream without readers is read by its worker, in the same order; late blocks are not read twice."""

import threading

import numpy as np
import pytest

from dpt_ray.data.loading.order import Segment
from dpt_ray.distributed.starved_stream import Starvation, never_starved

SEGMENTS = [Segment(0, 2, 6), Segment(3, 0, 5), Segment(1, 7, 8)]
NUMBERS = [2, 3, 4, 5, 300, 301, 302, 303, 304, 107]
"""The rows of the segments: 100 times the shard, plus the row."""


def _block(numbers):
    return {"label": np.asarray(numbers, np.int64)}


def _read_here(segment: Segment):
    for row in range(segment.start, segment.stop, 2):
        yield _block([100 * segment.shard + n for n in range(row, min(row + 2, segment.stop))])


class _Readers:
    """Gives blocks of some sizes; before the block `stuck` it waits until it is released."""

    def __init__(self, sizes, stuck: int | None = None):
        self.released = threading.Event()
        self.given = 0
        self._sizes, self._stuck = sizes, stuck

    def blocks(self):
        start = 0
        for number, size in enumerate(self._sizes):
            if number == self._stuck:
                self.released.wait()
            self.given += 1
            yield _block(NUMBERS[start : start + size])
            start += size


def _numbers(readers: _Readers, lines: list[str], seconds: float = 0.05):
    starvation = Starvation(lambda event: lines.append(event.text), seconds)
    for block in never_starved(readers.blocks(), SEGMENTS, _read_here, starvation):
        yield from block["label"].tolist()


def test_readers_that_run_give_all_rows():
    lines: list[str] = []
    assert list(_numbers(_Readers([3, 3, 3, 1]), lines, seconds=60)) == NUMBERS
    assert lines == []


@pytest.mark.parametrize("stuck", range(4))
def test_without_readers_the_worker_reads_the_same_rows(stuck):
    lines: list[str] = []
    readers = _Readers([3, 3, 3, 1], stuck)
    assert list(_numbers(readers, lines)) == NUMBERS
    assert readers.given <= stuck
    assert "so the worker reads by itself" in lines[0]


@pytest.mark.parametrize("released_after", range(4, 10))
def test_readers_that_come_back_continue_where_the_worker_is(released_after):
    """What the worker has read is left out of their blocks."""
    lines: list[str] = []
    readers = _Readers([3, 3, 3, 1], stuck=1)
    seen = []
    for number in _numbers(readers, lines):
        seen.append(number)
        if len(seen) == released_after:
            readers.released.set()
    assert seen == NUMBERS
    assert set(lines[1::2]) <= {"readers run again"}


def test_an_error_of_a_reader_reaches_the_worker():
    def blocks():
        yield _block(NUMBERS[:3])
        raise OSError("gone")

    stream = never_starved(blocks(), SEGMENTS, _read_here, Starvation(seconds=60))
    assert next(stream)["label"].tolist() == NUMBERS[:3]
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_readers_that_end_early_are_an_error():
    with pytest.raises(RuntimeError, match="readers gave 6 of 10 rows"):
        list(_numbers(_Readers([3, 3]), [], seconds=60))


def test_several_executions_of_a_stream_say_it_once():
    lines: list[str] = []
    starvation = Starvation(lambda event: lines.append(event.text), seconds=30)
    starvation.begin()
    starvation.begin()
    starvation.end(has_block=True)
    starvation.end(has_block=True)
    starvation.begin()
    starvation.end(has_block=False)
    started = "no reader gave a block for 30 s, so the worker reads by itself"
    assert lines == [started, "readers run again", started]
