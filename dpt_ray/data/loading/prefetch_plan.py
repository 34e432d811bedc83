"""The plan of what a worker reads: the segments that it will request, merged, and assigned to executions.

A window often ends within a shard, and the lane's next window begins there. Where images cannot be fetched without
their shard, the segments on both sides are merged and read at once. Otherwise each would fetch and check the whole
shard.
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
"""Requests among which segments to merge are searched."""


def segment_sequence(
    order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int, stop_step: int | None = None
) -> Iterator[Segment]:
    """Yield the segments that a worker will request, in the order of its requests.

    Args:
        order: the order of the source's images.
        lanes: the lanes that the worker reads.
        rows_per_lane: rows of a batch from each lane.
        first_step: the first step.
        stop_step: the step before which training ends; None for a sequence without end.
    """

    def lane_requests(place: int, lane: int) -> Iterator[tuple[tuple[int, int], tuple[Segment, ...]]]:
        """Yield a lane's requests with their time: the step, and the lane's place among the worker's lanes."""
        rows = 0
        for window, skip in order.windows(lane, first_step * rows_per_lane):
            yield (first_step + rows // rows_per_lane, place), window.segments
            rows += len(window) - skip

    for (step, _), segments in merge(*starmap(lane_requests, enumerate(lanes)), key=itemgetter(0)):
        if stop_step is not None and step >= stop_step:
            return
        yield from segments


@dataclass(frozen=True)
class MergedSegment:
    """A segment that is read at once, and the requests that it serves.

    Attributes:
        segment: the rows to read.
        requests: the requested segments that make it up, in the order of the requests.
    """

    segment: Segment
    requests: tuple[Segment, ...]


def merge_segments(requests: Iterator[Segment], most_rows: int) -> Iterator[MergedSegment]:
    """Yield merged segments in the order in which their first rows are requested; together they serve every request.

    Args:
        requests: segments in the order of a worker's requests.
        most_rows: most rows of a segment that serves several requests; 0 to merge nothing.
    """
    waiting: deque[Segment | None] = deque()
    while True:
        waiting.extend(islice(requests, LOOK_AHEAD - len(waiting)))
        if not waiting:
            return
        first = waiting.popleft()
        if first is not None:
            merged = [first]
            _take_following(waiting, merged, most_rows)
            yield MergedSegment(Segment(first.shard, first.start, merged[-1].stop), tuple(merged))


def _take_following(waiting: deque[Segment | None], merged: list[Segment], most_rows: int) -> None:
    """Move the segments that continue `merged` from `waiting` to it, and put None in their places."""
    if len(merged[0]) >= most_rows:
        return
    passed: set[Segment] = set()
    for place, candidate in enumerate(waiting):
        if candidate is None:
            continue
        last = merged[-1]
        if (candidate.shard, candidate.start) != (last.shard, last.stop):
            passed.add(candidate)
            continue
        # Do not merge across an earlier request for an equal segment, which is of an earlier epoch: the worker would
        # take the rows of this request for that one.
        if candidate in passed or candidate.stop - merged[0].start > most_rows:
            return
        merged.append(candidate)
        waiting[place] = None


def assign_segments(
    merged: Iterable[MergedSegment], executions: int, most_rows: int
) -> Iterator[tuple[MergedSegment, list[tuple[int, Segment]]]]:
    """Assign each segment to the execution with the fewest rows so far.

    Args:
        merged: the segments to read.
        executions: number of executions.
        most_rows: most rows of an assigned segment; a longer one is split.

    Yields:
        The merged segment, and the segments that it is split into, each with the number of its execution.
    """
    assigned_rows = [0] * executions
    for item in merged:
        assigned = []
        for segment in item.segment.split(most_rows):
            execution = assigned_rows.index(min(assigned_rows))
            assigned_rows[execution] += len(segment)
            assigned.append((execution, segment))
        yield item, assigned


def divide(items: Iterable[_Item], most_rows: int, num_rows: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """Divide a sequence into lists of at most `most_rows` rows; a longer item is a list of its own.

    Args:
        items: the sequence.
        most_rows: most rows of a list of several items.
        num_rows: returns an item's rows.
    """
    taken: list[_Item] = []
    total = 0
    for item in items:
        if taken and total + num_rows(item) > most_rows:
            yield taken
            taken, total = [], 0
        taken.append(item)
        total += num_rows(item)
    if taken:
        yield taken
