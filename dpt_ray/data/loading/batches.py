"""The batches of one worker from one image source, without end, in the order of `data/loading/order.py`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count

import numpy as np

from dpt_ray.data.buffer_pool import BufferPool
from dpt_ray.data.loading.order import ImageOrder, Segment

Columns = dict[str, np.ndarray]
"""The columns of a block or batch of N rows: `image` uint8 (N, C, H, W), `label` int64 (N,), and others (N, ...)."""

INDEX = "index"

ReadSegment = Callable[[Segment], Iterable[Columns]]
"""Reads a segment as blocks, which are valid until the next segment is requested.

It is called once for each segment, in the order of `segment_sequence`."""


def batches(
    order: ImageOrder, read: ReadSegment, *, lanes: Sequence[int], rows_per_lane: int, first_step: int
) -> Iterator[Columns]:
    """Yield one worker's batch of every step from `first_step` on.

    Args:
        order: the order of the source's images.
        read: reads a segment.
        lanes: the lanes that this worker reads.
        rows_per_lane: rows of a batch from each lane. The global batch has this times the lanes of all workers.
        first_step: the first step, counted from 0 at the start of training.

    Yields:
        A batch of len(lanes) * rows_per_lane rows, lane by lane: the columns that `read` returns, and `index`,
        int64 (N,), the number of each image in the source. Rows that replace an unreadable shard keep its numbers.
    """
    # A window's rows belong to many batches. To copy each image once, straight from its block into its batch, all of
    # them are open at once. Together they hold at most the images of the shuffle windows.
    open_batches: dict[int, Columns] = {}
    pool = BufferPool(most_spare=order.lane_window // rows_per_lane + 2)

    def batch(step: int, block: Columns) -> Columns:
        if step not in open_batches:
            rows = len(lanes) * rows_per_lane
            open_batches[step] = {
                name: pool.empty((rows, *values.shape[1:]), values.dtype) for name, values in block.items()
            }
        return open_batches[step]

    lane_steps = [
        _fill_lane(order, read, lane, slice(place * rows_per_lane, (place + 1) * rows_per_lane), first_step, batch)
        for place, lane in enumerate(lanes)
    ]
    incomplete = [first_step] * len(lanes)  # for each lane, the first step whose rows are not all there
    for step in count(first_step):
        for place, steps in enumerate(lane_steps):
            while incomplete[place] <= step:
                incomplete[place] = next(steps)
        yield open_batches.pop(step)


def _fill_lane(
    order: ImageOrder,
    read: ReadSegment,
    lane: int,
    rows: slice,
    first_step: int,
    batch: Callable[[int, Columns], Columns],
) -> Iterator[int]:
    """Copy a lane's images into their rows of the batches, window by window.

    Args:
        order: the order of the source's images.
        read: reads a segment.
        lane: the lane.
        rows: the lane's rows of a batch.
        first_step: the first step.
        batch: returns the batch of a step, with the columns of the given block.

    Yields:
        After each window, the first step that still lacks rows of the lane.
    """
    rows_per_lane = rows.stop - rows.start
    first = start = first_step * rows_per_lane  # numbers of the lane's images, counted from the start of training
    first_of_shard = np.cumsum(order.counts) - order.counts
    for window, skip in order.windows(lane, start):
        # `permutation` maps the shuffled order to the reading order. Its inverse gives each image that is read its
        # place in the lane.
        places = np.empty(len(window), np.int64)
        places[window.permutation] = np.arange(start - skip, start - skip + len(window))
        num_read = 0
        for block in chain.from_iterable(_numbered(read, segment, first_of_shard) for segment in window.segments):
            block_places = places[num_read : num_read + len(block["label"])]
            num_read += len(block_places)
            for step, chosen in _by_step(block_places, rows_per_lane, first):
                _copy_rows(block, chosen, batch(step, block), rows.start + block_places[chosen] % rows_per_lane)
        start += len(window) - skip
        yield start // rows_per_lane


def _numbered(read: ReadSegment, segment: Segment, first_of_shard: np.ndarray) -> Iterator[Columns]:
    """Yield a segment's blocks with the column `index`."""
    start = first_of_shard[segment.shard] + segment.start
    for block in read(segment):
        stop = start + len(block["label"])
        yield {**block, INDEX: np.arange(start, stop)}
        start = stop


def _by_step(places: np.ndarray, rows_per_lane: int, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each step that uses a block, and the block's rows that it uses.

    Args:
        places: the place in the lane of each of the block's rows.
        rows_per_lane: rows of a step.
        first: rows at smaller places are left out, since training resumes after them.
    """
    ordered = np.argsort(places)
    ordered = ordered[np.searchsorted(places[ordered], first) :]
    steps = places[ordered] // rows_per_lane
    for chosen in np.split(ordered, np.flatnonzero(np.diff(steps)) + 1):
        if len(chosen):
            yield int(places[chosen[0]]) // rows_per_lane, chosen


_MOST_INDEXED_BYTES = 16_384
"""Bytes of the largest row that is copied by array indexing, which makes a second copy of the rows. A loop copies once,
so it is faster for larger rows."""


def _copy_rows(source: Columns, rows: np.ndarray, target: Columns, places: np.ndarray) -> None:
    for name, values in source.items():
        if values.nbytes <= _MOST_INDEXED_BYTES * len(values):
            target[name][places] = values[rows]
        else:
            for place, row in zip(places.tolist(), rows.tolist(), strict=True):
                target[name][place] = values[row]
