"""What a worker will read, known ahead, and in fewer, longer reads.

A lane's window often ends within a shard, so that its next window begins there. Such segments are read together;
else the shard would be fetched and checked again for each of them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.stream import Columns, batches

LOOK_AHEAD = 512
"""Segments among which those are sought that follow each other in a shard."""


def segment_sequence(order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int) -> Iterator[Segment]:
    """Yield, without end, the segments that a worker will read, in the order in which it asks for them.

    The worker's own reading is played through with rows that are never read.
    """
    asked: list[Segment] = []

    def record(segment: Segment) -> Columns:
        asked.append(segment)
        return {"label": np.zeros(len(segment), np.int8)}

    for _ in batches(order, record, lanes=lanes, rows_per_lane=rows_per_lane, first_step=first_step):
        yield from asked
        asked.clear()


@dataclass(frozen=True)
class PlannedRead:
    """One read, and the segments that it serves, in the order in which they are asked for."""

    segment: Segment
    serves: tuple[Segment, ...]


def plan_reads(asked: Iterator[Segment], longest: int) -> Iterator[PlannedRead]:
    """Yield reads in the order in which their first rows are asked for; together they serve every segment once.

    Args:
        asked: segments in the order in which a worker asks for them, without end.
        longest: most rows of a read that serves several segments.
    """
    waiting: deque[Segment | None] = deque()
    while True:
        waiting.extend(islice(asked, LOOK_AHEAD - len(waiting)))
        if not waiting:
            return
        first = waiting.popleft()
        if first is not None:
            serves = [first]
            _take_following(waiting, serves, longest)
            yield PlannedRead(Segment(first.shard, first.start, serves[-1].stop), tuple(serves))


def _take_following(waiting: deque[Segment | None], serves: list[Segment], longest: int) -> None:
    """Move to `serves`, out of `waiting`, the segments that go on where it ends; None takes their place."""
    passed: set[Segment] = set()
    for place, candidate in enumerate(waiting):
        if candidate is None:
            continue
        last = serves[-1]
        if (candidate.shard, candidate.start) != (last.shard, last.stop):
            passed.add(candidate)
            continue
        # The same segment, asked for before and in a later epoch again: the worker would take this one too soon.
        if candidate in passed or candidate.stop - serves[0].start > longest:
            return
        serves.append(candidate)
        waiting[place] = None
