"""A stream whose readers get no CPU is read by the worker that waits for it, in the same order."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from functools import partial
from itertools import accumulate
from threading import Lock

from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.source import LABEL
from dpt_ray.distributed.background import in_background
from dpt_ray.distributed.events import READERS_BACK, STARVED, Event, tell

STARVED_SECONDS = 30.0
"""Time without a block after which a worker reads by itself. A reader needs less to start and to fetch a shard."""

ReadHere = Callable[[Segment], Iterator[Columns]]
"""Reads the rows of a segment in this process, as blocks."""


class Starvation:
    """Tells once that a stream starves and once that it no longer does, however many executions it has.

    Args:
        say: receives the events.
        seconds: time without a block after which an execution starves.
    """

    def __init__(self, say: Callable[[Event], object] = tell, seconds: float = STARVED_SECONDS):
        self.seconds = seconds
        self._say, self._lock, self._starving = say, Lock(), 0

    def begin(self) -> None:
        """Note that an execution starves."""
        with self._lock:
            self._starving += 1
            if self._starving == 1:
                text = f"no reader gave a block for {self.seconds:g} s, so the worker reads by itself"
                self._say(Event(STARVED, text, {"seconds": self.seconds}))

    def end(self, *, has_block: bool) -> None:
        """Note that an execution no longer starves: a reader gave it a block, or all its rows were read here."""
        with self._lock:
            self._starving -= 1
            if self._starving == 0 and has_block:
                self._say(Event(READERS_BACK, "readers run again"))


def never_starved(
    blocks: Iterator[Columns], segments: Sequence[Segment], read_here: ReadHere, starvation: Starvation
) -> Iterator[Columns]:
    """Yield the rows of segments, in order, as the blocks of readers, or as blocks read here while none comes.

    Args:
        blocks: all rows of the segments, in order, in blocks of any size; its `next` may wait for ever.
        segments: what is read.
        read_here: reads a segment in this process.
        starvation: how long to wait for a block, and who is told.
    """
    stops = list(accumulate(map(len, segments)))
    taken = received = 0  # rows that were yielded, and rows that readers gave
    pending: Future[Columns | None] | None = None
    starving = False
    while taken < (stops[-1] if stops else 0):
        pending = pending or in_background(partial(next, blocks, None))
        if wait_for([pending], 0 if starving else starvation.seconds).done:
            block, pending = pending.result(), None
            if block is None:
                raise RuntimeError(f"readers gave {received} of {stops[-1]} rows")
            if starving:
                starvation.end(has_block=True)
                starving = False
            skipped, received = taken - received, received + len(block[LABEL])
            if received > taken:  # otherwise its rows were read here
                taken = received
                yield {name: values[skipped:] for name, values in block.items()}
            # A reference would keep the block in the object store while the next one is waited for.
            del block
            continue
        if not starving:
            starvation.begin()
            starving = True
        for rows in read_here(_rest(segments, stops, taken)):
            taken += len(rows[LABEL])
            yield rows
    if starving:
        starvation.end(has_block=False)


def _rest(segments: Sequence[Segment], stops: Sequence[int], taken: int) -> Segment:
    """Return what is left of the segment that holds the first row after `taken` rows."""
    number = bisect_right(stops, taken)
    segment = segments[number]
    return Segment(segment.shard, segment.stop - (stops[number] - taken), segment.stop)
