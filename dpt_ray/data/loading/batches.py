"""One worker's endless stream of batches from an image source, in the order of `data/loading/order.py`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count

import numpy as np

from dpt_ray.data.loading.buffer_pool import Rooms
from dpt_ray.data.loading.order import ImageOrder, Segment

Columns = dict[str, np.ndarray]
"""Column name -> one row an image: `image` uint8 (N, C, H, W), `label` int64 (N,)."""

INDEX = "index"

ReadSegment = Callable[[Segment], Iterable[Columns]]
"""Return a segment's rows, in pieces, which are to be used at once: before the next segment is asked for.

Called once for each segment in the order of `segment_sequence`."""


def batches(
    order: ImageOrder, read: ReadSegment, *, lanes: Sequence[int], rows_per_lane: int, first_step: int
) -> Iterator[Columns]:
    """Yield one worker's rows of every step from `first_step` on.

    An image is copied once, from where it was read to its place in a batch. So as many batches are being filled as a
    window has steps; together they hold no more images than are shuffled together.

    Args:
        order: the source's order.
        read: gives a segment's rows.
        lanes: the lanes that this worker holds.
        rows_per_lane: a step's rows from each lane; the global batch is lanes of all workers times this.
        first_step: the step to begin with (0 at the start of training).

    Yields:
        Columns with len(lanes) * rows_per_lane rows, lane by lane: what is read, and `index`, int64 (N,): each
        image's planned place in the source. A shard that could not be read and whose place another one took keeps
        its own indices.
    """
    begun: dict[int, Columns] = {}
    rooms = Rooms(most_spare=order.lane_window // rows_per_lane + 2)

    def batch(step: int, like: Columns) -> Columns:
        if step not in begun:
            rows = len(lanes) * rows_per_lane
            begun[step] = {name: rooms.empty((rows, *values.shape[1:]), values.dtype) for name, values in like.items()}
        return begun[step]

    filled = [
        _fill(order, read, lane, slice(place * rows_per_lane, (place + 1) * rows_per_lane), first_step, batch)
        for place, lane in enumerate(lanes)
    ]
    whole = [first_step] * len(lanes)
    for step in count(first_step):
        for place, lane in enumerate(filled):
            while whole[place] <= step:
                whole[place] = next(lane)
        yield begun.pop(step)


def _fill(
    order: ImageOrder,
    read: ReadSegment,
    lane: int,
    rows: slice,
    first_step: int,
    batch: Callable[[int, Columns], Columns],
) -> Iterator[int]:
    """Put a lane's images into its rows of every batch; yield after each window the step from which on they lack some.

    Args:
        order: the source's order.
        read: gives a segment's rows.
        lane: the lane.
        rows: of a batch, for this lane.
        first_step: the first batch.
        batch: returns a step's batch, with the columns of those that it is given.
    """
    rows_per_lane = rows.stop - rows.start
    first = start = first_step * rows_per_lane  # images of the lane, counted from the run's start
    first_of_shard = np.cumsum(order.counts) - order.counts
    for window, skip in order.windows(lane, start):
        handed_out = np.empty(len(window), np.int64)  # as which of the lane's images
        handed_out[window.permutation] = np.arange(start - skip, start - skip + len(window))
        pieces = chain.from_iterable(_numbered(read, segment, first_of_shard) for segment in window.segments)
        read_rows = 0
        for piece in pieces:
            places = handed_out[read_rows : read_rows + len(piece["label"])]
            read_rows += len(places)
            for step, chosen in _by_step(places, rows_per_lane, first):
                target = batch(step, piece)
                _copy_rows(piece, chosen, target, rows.start + places[chosen] % rows_per_lane)
        start += len(window) - skip
        yield start // rows_per_lane


def _numbered(read: ReadSegment, segment: Segment, first_of_shard: np.ndarray) -> Iterator[Columns]:
    start = first_of_shard[segment.shard] + segment.start
    for piece in read(segment):
        stop = start + len(piece["label"])
        yield {**piece, INDEX: np.arange(start, stop)}
        start = stop


def _by_step(places: np.ndarray, rows_per_lane: int, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each step of a lane's images `places`, and which of them are its; those before `first` are passed over."""
    ordered = np.argsort(places)
    ordered = ordered[np.searchsorted(places[ordered], first) :]
    steps = places[ordered] // rows_per_lane
    for chosen in np.split(ordered, np.flatnonzero(np.diff(steps)) + 1):
        if len(chosen):
            yield int(places[chosen[0]]) // rows_per_lane, chosen


_COPIED_TOGETHER = 16_384
"""Bytes of a row, at most: rows that are copied together are copied twice, which costs large ones more than a loop."""


def _copy_rows(source: Columns, rows: np.ndarray, target: Columns, places: np.ndarray) -> None:
    for name, values in source.items():
        if values.nbytes <= _COPIED_TOGETHER * len(values):
            target[name][places] = values[rows]
        else:
            for place, row in zip(places.tolist(), rows.tolist(), strict=True):
                target[name][place] = values[row]
