"""What a worker will read, known ahead, and in fewer, longer reads.

A lane's window often ends within a shard, so that its next window begins there. Such segments are read together;
else the shard would be fetched and checked again for each of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, starmap
from operator import itemgetter
from typing import TypeVar

from dpt_ray.data.loading.order import ImageOrder, Segment

_Item = TypeVar("_Item")

LOOK_AHEAD = 512
"""Segments among which those are sought that follow each other in a shard."""


def segment_sequence(
    order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int, stop_step: int | None = None
) -> Iterator[Segment]:
    """Yield the segments that a worker will read, in the order in which it asks for them.

    It ends before `stop_step`, so that nothing is read that no step uses; without one it is endless.
    """

    def lane_reads(place: int, lane: int) -> Iterator[tuple[tuple[int, int], tuple[Segment, ...]]]:
        """Yield what a lane reads, and when: at which step, and after how many of the worker's lanes."""
        rows = 0
        for window, skip in order.windows(lane, first_step * rows_per_lane):
            yield (first_step + rows // rows_per_lane, place), window.segments
            rows += len(window) - skip

    for (step, _), segments in merge(*starmap(lane_reads, enumerate(lanes)), key=itemgetter(0)):
        if stop_step is not None and step >= stop_step:
            return
        yield from segments


@dataclass(frozen=True)
class PlannedRead:
    """One read, and the segments that it serves, in the order in which they are asked for."""

    segment: Segment
    serves: tuple[Segment, ...]


def plan_reads(asked: Iterator[Segment], longest: int) -> Iterator[PlannedRead]:
    """Yield reads in the order in which their first rows are asked for; together they serve every segment once.

    Args:
        asked: segments in the order in which a worker asks for them.
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


def deal(
    reads: Iterable[PlannedRead], hands: int, longest: int
) -> Iterator[tuple[PlannedRead, list[tuple[int, Segment]]]]:
    """Deal reads to several hands: each goes to the one that has the fewest rows so far.

    Args:
        reads: what is to be read.
        hands: how many there are.
        longest: most rows of a part; a longer read is dealt in several.

    Yields:
        The read, and the number of a hand with each part of it.
    """
    dealt = [0] * hands
    for read in reads:
        parts = []
        for part in read.segment.split(longest):
            hand = dealt.index(min(dealt))
            dealt[hand] += len(part)
            parts.append((hand, part))
        yield read, parts


def cut(items: Iterable[_Item], limit: int, size: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """Cut a sequence into runs; an item that is longer than the limit is a run of its own.

    Args:
        items: what to cut.
        limit: most rows of a run.
        size: an item's rows.
    """
    run: list[_Item] = []
    total = 0
    for item in items:
        if run and total + size(item) > limit:
            yield run
            run, total = [], 0
        run.append(item)
        total += size(item)
    if run:
        yield run
