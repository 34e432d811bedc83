"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both give a worker the same rows in the same order (`data/order.py`); which one is used follows from
the source's size. A read task fetches shards whole and decodes the rows that are asked for.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, repeat
from typing import Any

import ray
from ray.data import ExecutionResources

from dpt_ray.data.ahead import PlannedRead, cut, plan_reads, segment_sequence
from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.room import Rooms
from dpt_ray.data.source import LABEL, ImageSource
from dpt_ray.data.stores import is_remote
from dpt_ray.data.stream import Columns, ReadSegment, concatenate
from dpt_ray.distributed.cluster import READER_CPUS, total_resources
from dpt_ray.distributed.datasource import Note, rows_of, segment_dataset
from dpt_ray.distributed.failures import user_error

KEPT_BLOCK_BYTES, STREAMED_BLOCK_BYTES = 32 * 2**20, 64 * 2**20
"""Decoded images of a block, at most: a read task reads several small shards into one, or a large one into several."""

SMALLER_AT_FIRST = (8, 8, 8, 4, 4, 4, 2, 2, 2)
"""A stream's first tasks take only such a part of a block, so that the first batch does not wait for whole ones."""

BLOCKS_AT_ONCE = 8
"""Blocks are smaller where so many would not fit into the stream's share of the object store."""

TASKS_AHEAD = 256
"""Read tasks of one Ray Data execution while streaming; the next execution follows it after a pause of a second."""

REMOTE_READERS = 2
"""Readers for each CPU where shards come over a network: one fetches while another decodes."""


class _Rows:
    """The rows of blocks that come one after another, taken in order."""

    def __init__(self, blocks: Iterator[Columns], rooms: Rooms):
        self._blocks = blocks
        self._rooms = rooms
        self._rest: Columns = {}

    def take(self, count: int) -> Columns:
        """Return the next rows, without a copy where one block holds them."""
        pieces = []
        while count:
            block = self._rest or next(self._blocks)
            here = min(count, len(block[LABEL]))
            pieces.append({name: values[:here] for name, values in block.items()})
            left = len(block[LABEL]) - here
            self._rest = {name: values[here:] for name, values in block.items()} if left else {}
            count -= here
        return concatenate(pieces, self._rooms)


@dataclass
class KeptImages:
    """A source decoded once: an object-store reference for each block's columns, in the source's order."""

    source: ImageSource
    references: list[ray.ObjectRef]

    def open(self, **_: Any) -> ReadSegment:
        """Return how a worker reads a segment: a slice, without a copy where one block holds it."""
        blocks: list[Columns] = ray.get(self.references)
        block_starts = [0, *accumulate(len(block[LABEL]) for block in blocks)]
        shard_starts = [0, *accumulate(self.source.counts)]
        rooms = Rooms()

        def read(segment: Segment) -> Columns:
            place, stop = (shard_starts[segment.shard] + row for row in (segment.start, segment.stop))
            pieces = []
            while place < stop:
                number = bisect_right(block_starts, place) - 1
                inside = slice(place - block_starts[number], stop - block_starts[number])
                pieces.append({name: values[inside] for name, values in blocks[number].items()})
                place = block_starts[number + 1]
            return concatenate(pieces, rooms)

        return read


@dataclass
class StreamedImages:
    """A source that is read again in every epoch.

    Attributes:
        source: what to read.
        memory: bytes of the object store that one worker's stream may fill.
        cpus: what a reading task reserves.
        on_unreadable: is told of shards that cannot be read; None lets them raise.
    """

    source: ImageSource
    memory: int
    cpus: float = READER_CPUS
    on_unreadable: Note | None = None

    def open(
        self,
        *,
        order: ImageOrder,
        lanes: Sequence[int],
        rows_per_lane: int,
        first_step: int,
        stop_step: int | None = None,
    ) -> ReadSegment:
        """Return how a worker reads its segments: from a Ray Data stream that runs ahead of it, in order.

        The arguments are those of `segment_sequence`.
        """
        asked = segment_sequence(order, lanes, rows_per_lane, first_step, stop_step)
        reads = self._read(plan_reads(asked, longest=self._block_rows))
        held: dict[Segment, deque[Columns]] = defaultdict(deque)

        def read(segment: Segment) -> Columns:
            if not held[segment]:
                for served, columns in next(reads):
                    held[served].append(columns)
            columns = held[segment].popleft()
            if not held[segment]:
                del held[segment]
            return columns

        return read

    def _read(self, planned: Iterator[PlannedRead]) -> Iterator[list[tuple[Segment, Columns]]]:
        limits = chain((-(-self._block_rows // part) for part in SMALLER_AT_FIRST), repeat(self._block_rows))
        groups = cut(planned, limits, lambda read: len(read.segment))
        rooms = Rooms()
        while tasks := list(islice(groups, TASKS_AHEAD)):
            segments = [[read.segment for read in group] for group in tasks]
            dataset = segment_dataset(self.source, segments, self._block_rows, self.on_unreadable, self.cpus)
            dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(
                object_store_memory=self.memory
            )
            blocks = dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)
            stream = _Rows(iter(blocks), rooms)
            for read in chain.from_iterable(tasks):
                rows = stream.take(len(read.segment))
                yield [(part, _part(rows, part, read.segment, rooms)) for part in read.serves]

    @property
    def _block_rows(self) -> int:
        """Rows of a block."""
        return rows_of(min(STREAMED_BLOCK_BYTES, self.memory // BLOCKS_AT_ONCE), self.source)


def _part(rows: Columns, part: Segment, whole: Segment, rooms: Rooms) -> Columns:
    """Return what a read holds of one of its segments.

    It is copied unless it is all: a slice would keep its block in the object store until the last part is used.
    """
    if part == whole:
        return rows
    inside = slice(part.start - whole.start, part.stop - whole.start)
    copy: Columns = {}
    for name, values in rows.items():
        copy[name] = rooms.empty((len(part), *values.shape[1:]), values.dtype)
        copy[name][:] = values[inside]
    return copy


def open_source(
    source: ImageSource,
    keep_bytes: int,
    *,
    streams: int = 1,
    cpus: float = READER_CPUS,
    on_unreadable: Note | None = None,
) -> KeptImages | StreamedImages:
    """Decode and keep a source that is small enough; stream a larger one.

    Args:
        source: what to read.
        keep_bytes: largest decoded size that is kept.
        streams: how many readers may stream at the same time on this cluster, and so share its object store.
        cpus: what a reading task reserves while streaming.
        on_unreadable: is told of a shard that cannot be read, and may raise; by default such a shard raises.

    Raises:
        UserError: a shard or image that cannot be read.
    """
    if source.decoded_bytes > keep_bytes:
        if is_remote(source.shards[0].url):
            cpus /= REMOTE_READERS
        return StreamedImages(source, _stream_memory(streams), cpus, on_unreadable)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        # No training competes for CPUs yet.
        block_rows = rows_of(KEPT_BLOCK_BYTES, source)
        groups = list(cut(whole_shards, repeat(block_rows), len))
        dataset = segment_dataset(source, groups, block_rows, on_unreadable, READER_CPUS).materialize()
        return KeptImages(source, dataset.to_numpy_refs())
    except Exception as error:
        raise user_error(error) or error from error


STREAM_SHARE = 0.4
"""Share of the object store for all streams together; kept sources and messages need the rest."""

MOST_AHEAD = 2**30
"""Bytes that one stream holds ahead of its worker at most; more would only be read too early."""


def _stream_memory(streams: int) -> int:
    share = STREAM_SHARE * total_resources()["object_store_memory"] / max(1, streams)
    return int(min(share, MOST_AHEAD))
