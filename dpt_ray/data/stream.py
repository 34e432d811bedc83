"""One worker's endless stream of batches from an image source, in the order of `data/order.py`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.room import Rooms

Columns = dict[str, np.ndarray]
"""Column name -> one row an image: `image` uint8 (N, C, H, W), `label` int64 (N,)."""

INDEX = "index"

ReadSegment = Callable[[Segment], Iterable[Columns]]
"""Return a segment's rows, in pieces, which are to be used at once: before the next segment is asked for.

Called once for each segment in the order of `segment_sequence`."""


class LaneStream:
    """The images of one lane, window by window, with a column `index`: each image's planned place in the source.

    A shard that could not be read and whose place another one took keeps its own indices.
    """

    def __init__(self, order: ImageOrder, lane: int, lane_offset: int, read: ReadSegment, rooms: Rooms):
        self._windows = order.windows(lane, lane_offset)
        self._read = read
        self._rooms = rooms
        self._first_of_shard = np.cumsum(order.counts) - order.counts
        self._ready: deque[Columns] = deque()
        self._num_ready = 0

    def take(self, count: int) -> list[Columns]:
        """Return the next `count` images, in pieces."""
        while self._num_ready < count:
            window, skip = next(self._windows)
            pieces = chain.from_iterable(map(self._numbered, window.segments))
            rows = _shuffled(pieces, window.permutation, self._rooms)
            self._ready.append({name: values[skip:] for name, values in rows.items()})
            self._num_ready += len(window.permutation) - skip
        pieces = []
        self._num_ready -= count
        while count:
            piece = self._ready.popleft()
            size = len(piece["label"])
            if size > count:
                self._ready.appendleft({name: values[count:] for name, values in piece.items()})
                piece = {name: values[:count] for name, values in piece.items()}
            pieces.append(piece)
            count -= min(size, count)
        return pieces

    def _numbered(self, segment: Segment) -> Iterator[Columns]:
        start = self._first_of_shard[segment.shard] + segment.start
        for piece in self._read(segment):
            stop = start + len(piece["label"])
            yield {**piece, INDEX: np.arange(start, stop)}
            start = stop


def _shuffled(pieces: Iterator[Columns], permutation: np.ndarray, rooms: Rooms) -> Columns:
    """Join pieces in the order that `permutation` gives; each row is copied once, as soon as its piece is there."""
    places = np.empty(len(permutation), np.int64)
    places[permutation] = np.arange(len(permutation))
    rows: Columns = {}
    start = 0
    for piece in pieces:
        stop = start + len(piece["label"])
        for name, values in piece.items():
            if name not in rows:
                rows[name] = rooms.empty((len(permutation), *values.shape[1:]), values.dtype)
            rows[name][places[start:stop]] = values
        start = stop
    return rows


def batches(
    order: ImageOrder, read: ReadSegment, *, lanes: Sequence[int], rows_per_lane: int, first_step: int
) -> Iterator[Columns]:
    """Yield one worker's rows of every step from `first_step` on.

    Args:
        order: the source's order.
        read: gives a segment's rows.
        lanes: the lanes that this worker holds.
        rows_per_lane: a step's rows from each lane; the global batch is lanes of all workers times this.
        first_step: the step to begin with (0 at the start of training).

    Yields:
        Columns with len(lanes) * rows_per_lane rows, lane by lane; besides what is read, `index` int64 (N,).
    """
    rooms = Rooms()
    streams = [LaneStream(order, lane, first_step * rows_per_lane, read, rooms) for lane in lanes]
    while True:
        yield concatenate([piece for stream in streams for piece in stream.take(rows_per_lane)], rooms)


def concatenate(pieces: Sequence[Mapping[str, np.ndarray]], rooms: Rooms) -> Columns:
    """Join rows; a single piece is returned without a copy."""
    if len(pieces) == 1:
        return dict(pieces[0])
    joined: Columns = {}
    for name, first in pieces[0].items():
        parts = [piece[name] for piece in pieces]
        joined[name] = rooms.empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)
        np.concatenate(parts, out=joined[name])
    return joined
