"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both give a worker the same rows in the same order (`data/loading/order.py`); which one is used follows from
the source's size. A read task fetches shards whole and decodes the rows that are asked for.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import ray
from ray.data import ExecutionResources

from dpt_ray.data.loading.batches import Columns, ReadSegment
from dpt_ray.data.loading.buffer_pool import Rooms
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import PlannedRead, cut, deal, plan_reads, segment_sequence
from dpt_ray.data.loading.source import LABEL, ImageSource
from dpt_ray.data.storage.stores import is_remote
from dpt_ray.distributed.cluster import READER_CPUS, Resources, stream_readers, total_resources
from dpt_ray.distributed.datasource import Note, rows_of, segment_dataset
from dpt_ray.distributed.failures import user_error

BLOCK_BYTES = 32 * 2**20
"""Decoded images of a block, at most."""

TASK_BLOCKS, LEAST_TASK_BLOCKS = 16, 4
"""Blocks of a read task, at most, and at least: they are smaller where the object store holds fewer of them."""

MOST_EXECUTIONS = 4
"""Ray Data executions of a stream, at most. Each looks for events when all its running tasks have one, or after a tenth
of a second: a reader that has one to itself hardly idles between two tasks. But each takes time of the worker."""

TASKS_AHEAD = 64
"""Read tasks of a reader in one Ray Data execution; the next execution follows it after a pause."""

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
    references: list[ray.ObjectRef[Any]]

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

        The reads are dealt to executions that run side by side, so that all of them have rows ready when the worker
        comes to them.
        """
        executions = _shares(self.readers, min(self.readers, MOST_EXECUTIONS))
        rooms = Rooms()
        for run in cut(planned, self._task_rows * TASKS_AHEAD * self.readers, lambda read: len(read.segment)):
            dealt = list(deal(run, len(executions), self._task_rows))
            hands: list[list[Segment]] = [[] for _ in executions]
            for number, part in chain.from_iterable(parts for _, parts in dealt):
                hands[number].append(part)
            streams = [_Rows(self._blocks(hand, readers)) for hand, readers in zip(hands, executions, strict=True)]
            with ThreadPoolExecutor(len(streams)) as pool:  # an execution starts when its first block is asked for
                list(pool.map(_Rows.wait, streams))
            for read, parts in dealt:
                first, *others = read.serves
                if not others:
                    yield [(first, chain.from_iterable(streams[number].take(len(part)) for number, part in parts))]
                    continue
                stream = streams[parts[0][0]]
                now = list(stream.take(len(first)))
                yield [(first, now), *((part, list(_copied(stream.take(len(part)), rooms))) for part in others)]

    def _blocks(self, segments: Sequence[Segment], readers: int) -> Iterator[Columns]:
        """Yield the rows of some segments, in blocks, from an execution with so many readers."""
        if not segments:
            return
        tasks = list(cut(segments, self._task_rows, len))
        dataset = segment_dataset(self.source, tasks, self._block_rows, self.on_unreadable, self.cpus)
        dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(
            # Running tasks fill as much again: they go on when the limit is reached.
            cpu=self.cpus * readers,
            object_store_memory=self._task_rows * self.source.form.num_bytes * readers,
        )
        yield from dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)

    @property
    def _block_rows(self) -> int:
        """Rows of a block."""
        return rows_of(min(BLOCK_BYTES, self._task_bytes // LEAST_TASK_BLOCKS), self.source)

    @property
    def _task_rows(self) -> int:
        """Rows of a read task, at most."""
        return self._block_rows * max(1, min(TASK_BLOCKS, rows_of(self._task_bytes, self.source) // self._block_rows))

    @property
    def _task_bytes(self) -> int:
        """What the object store has for the blocks of a task."""
        return self.memory // (2 * self.readers)


def _shares(total: int, parts: int) -> list[int]:
    """Return a number as a sum of equal parts, or nearly so."""
    return [(total + number) // parts for number in range(parts)]


def _copied(pieces: Iterator[Columns], rooms: Rooms) -> Iterator[Columns]:
    """Copy what is used later: it would keep its block in the object store until then."""
    for piece in pieces:
        copy: Columns = {}
        for name, values in piece.items():
            copy[name] = rooms.empty(values.shape, values.dtype)
            copy[name][:] = values
        yield copy


def is_kept(source: ImageSource, keep_bytes: int) -> bool:
    """Whether a source is small enough to be decoded once and kept; a larger one streams."""
    return source.decoded_bytes <= keep_bytes


def open_source(
    source: ImageSource,
    keep_bytes: int,
    *,
    streams: int = 1,
    training: Resources | None = None,
    on_unreadable: Note | None = None,
) -> KeptImages | StreamedImages:
    """Decode and keep a source that is small enough; stream a larger one.

    Args:
        source: what to read.
        keep_bytes: largest decoded size that is kept.
        streams: how many streams may run at the same time on this cluster, and so share it.
        training: beside which training they run.
        on_unreadable: is told of a shard that cannot be read, and may raise; by default such a shard raises.

    Raises:
        UserError: a shard or image that cannot be read.
    """
    if not is_kept(source, keep_bytes):
        readers, cpus = stream_readers(streams, training)
        if is_remote(source.shards[0].url):
            readers, cpus = REMOTE_READERS * readers, cpus / REMOTE_READERS
        return StreamedImages(source, _stream_memory(streams), readers, cpus, on_unreadable)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        # No training competes for CPUs yet.
        task_rows = min(rows_of(TASK_BLOCKS * BLOCK_BYTES, source), -(-source.num_images // stream_readers()[0]))
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
"""Bytes with which two readers do as well, and for which clusters are sized. With half, photographs come 3 % slower."""


def _stream_memory(streams: int) -> int:
    share = STREAM_SHARE * total_resources()["object_store_memory"] / max(1, streams)
    return int(min(share, MOST_AHEAD))
