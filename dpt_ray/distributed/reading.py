"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both give a worker the same rows in the same order (`data/order.py`); which one is used follows from
the source's size. A read task fetches shards whole and decodes the rows that are asked for.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain, islice, tee
from threading import Lock
from typing import Any

import ray
from ray.data import ExecutionResources

from dpt_ray.data.ahead import PlannedRead, cut, deal, plan_reads, segment_sequence
from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.room import Rooms
from dpt_ray.data.source import LABEL, ImageSource
from dpt_ray.data.stores import is_remote
from dpt_ray.data.stream import Columns, ReadSegment
from dpt_ray.distributed.cluster import READER_CPUS, total_resources
from dpt_ray.distributed.datasource import Note, rows_of, segment_dataset
from dpt_ray.distributed.failures import user_error

BLOCK_BYTES = 32 * 2**20
"""Decoded images of a block, at most."""

BLOCKS_IN_STORE = 8
"""Blocks of a reader that the object store must hold; they are smaller where it cannot."""

TASK_BLOCKS = 64
"""Blocks of a read task, at most. Between two tasks a reader idles for some 0.1 s: Ray Data looks for events when all
running tasks have one, or after that time. A task that is tried again begins anew."""

KEPT_TASK_BLOCKS = 8
"""Blocks of a task that reads what is kept, at most."""

TASKS_AHEAD = 32
"""Read tasks of one Ray Data execution while streaming; the next execution follows it after a pause of a second."""

REMOTE_READERS = 2
"""Readers for each CPU where shards come over a network: one fetches while another decodes."""


class _Rows:
    """The rows of blocks that come one after another, taken in order."""

    def __init__(self, blocks: Iterator[Columns]):
        self._blocks = blocks
        self._rest: Columns = {}

    def wait(self) -> None:
        """Wait for the first rows, if there are any."""
        self._rest = self._rest or next(self._blocks, {})

    def take(self, count: int) -> Iterator[Columns]:
        """Yield the next rows: a piece of each block that holds some of them, without a copy."""
        while count:
            block = self._rest or next(self._blocks)
            here = min(count, len(block[LABEL]))
            self._rest = _rows(block, here, None) if here < len(block[LABEL]) else {}
            count -= here
            yield _rows(block, 0, here)
            del block  # else it would stay in the object store while the next one is waited for


def _rows(columns: Columns, start: int, stop: int | None) -> Columns:
    return {name: values[start:stop] for name, values in columns.items()}


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

        def read(segment: Segment) -> Iterator[Columns]:
            place, stop = (shard_starts[segment.shard] + row for row in (segment.start, segment.stop))
            while place < stop:
                number = bisect_right(block_starts, place) - 1
                first = block_starts[number]
                yield _rows(blocks[number], place - first, stop - first)
                place = block_starts[number + 1]

        return read


@dataclass
class StreamedImages:
    """A source that is read again in every epoch.

    Attributes:
        source: what to read.
        memory: bytes of the object store that one worker's stream may fill.
        readers: how many of the stream's reading tasks run at the same time.
        cpus: what a reading task reserves.
        on_unreadable: is told of shards that cannot be read; None lets them raise.
    """

    source: ImageSource
    memory: int
    readers: int = 1
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
        held: dict[Segment, deque[Iterable[Columns]]] = defaultdict(deque)

        def read(segment: Segment) -> Iterable[Columns]:
            if not held[segment]:
                for served, pieces in next(reads):
                    held[served].append(pieces)
            pieces = held[segment].popleft()
            if not held[segment]:
                del held[segment]
            return pieces

        return read

    def _read(self, planned: Iterator[PlannedRead]) -> Iterator[list[tuple[Segment, Iterable[Columns]]]]:
        """Yield for each read the segments that it serves, and their pieces; the first one's are not there yet.

        Every reader has a Ray Data execution of its own, and the reads are dealt to them. In one for all of them the
        blocks of a later task would fill the object store while those of an earlier one are taken.
        """
        longest = self._block_rows * BLOCKS_IN_STORE // 2
        *dealt, asked = tee(deal(planned, self.readers, longest), self.readers + 1)
        lock = Lock()
        streams = [_Rows(self._blocks(_of(reader, reads, lock))) for reader, reads in enumerate(dealt)]
        with ThreadPoolExecutor(self.readers) as pool:  # an execution starts with its first block
            list(pool.map(_Rows.wait, streams))
        rooms = Rooms()
        for read, parts in asked:
            rows = chain.from_iterable(streams[reader].take(len(part)) for reader, part in parts)
            if len(read.serves) == 1:
                yield [(read.segment, rows)]
                continue
            ((reader, _),) = parts
            first, *others = read.serves
            now = list(streams[reader].take(len(first)))
            yield [(first, now), *((part, list(_copied(streams[reader].take(len(part)), rooms))) for part in others)]

    def _blocks(self, segments: Iterator[Segment]) -> Iterator[Columns]:
        """Yield the rows of one reader's segments, in blocks."""
        groups = cut(segments, self._block_rows * TASK_BLOCKS, len)
        while tasks := list(islice(groups, TASKS_AHEAD)):
            dataset = segment_dataset(self.source, tasks, self._block_rows, self.on_unreadable, self.cpus)
            dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(
                cpu=self.cpus, object_store_memory=self.memory // self.readers
            )
            yield from dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)

    @property
    def _block_rows(self) -> int:
        """Rows of a block."""
        return rows_of(min(BLOCK_BYTES, self.memory // (self.readers * BLOCKS_IN_STORE)), self.source)


def _of(
    reader: int, dealt: Iterator[tuple[PlannedRead, list[tuple[int, Segment]]]], lock: Lock
) -> Iterator[Segment]:
    """Yield the segments of one reader; `dealt` shares state with others that may be in other threads."""
    while True:
        with lock:
            _, parts = next(dealt, (None, None))
        if parts is None:
            return
        yield from (part for number, part in parts if number == reader)


def _copied(pieces: Iterator[Columns], rooms: Rooms) -> Iterator[Columns]:
    """Copy what is used later: it would keep its block in the object store until then."""
    for piece in pieces:
        copy: Columns = {}
        for name, values in piece.items():
            copy[name] = rooms.empty(values.shape, values.dtype)
            copy[name][:] = values
        yield copy


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
        return StreamedImages(source, _stream_memory(streams), _readers(cpus, streams), cpus, on_unreadable)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        # No training competes for CPUs yet.
        task_rows = min(rows_of(KEPT_TASK_BLOCKS * BLOCK_BYTES, source), -(-source.num_images // _readers(READER_CPUS, 1)))
        groups = list(cut(whole_shards, task_rows, len))
        dataset = segment_dataset(source, groups, rows_of(BLOCK_BYTES, source), on_unreadable, READER_CPUS)
        return KeptImages(source, dataset.materialize().to_numpy_refs())
    except Exception as error:
        raise user_error(error) or error from error


STREAM_SHARE = 0.4
"""Share of the object store for all streams together; kept sources and messages need the rest."""

MOST_AHEAD = 2**31
"""Bytes that one stream holds ahead of its worker at most; more would only be read too early."""

ENOUGH_AHEAD = 2**30
"""Bytes with which a stream does nearly as well, and for which clusters are sized: photographs come a tenth slower."""


def _readers(cpus: float, streams: int) -> int:
    """Return how many reading tasks of one stream fit on the cluster."""
    return max(1, int(total_resources().get("CPU", 1) / cpus / max(1, streams) + 1e-6))


def _stream_memory(streams: int) -> int:
    share = STREAM_SHARE * total_resources()["object_store_memory"] / max(1, streams)
    return int(min(share, MOST_AHEAD))
