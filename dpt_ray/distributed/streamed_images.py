"""A source that is read again in every epoch, through Ray Data."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from ray.data import ExecutionResources

from dpt_ray.data.buffer_pool import BufferPool
from dpt_ray.data.loading.batches import Columns, ReadSegment
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import (
    MergedSegment,
    assign_segments,
    divide,
    merge_segments,
    segment_sequence,
)
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segments import OnUnreadable, read_segment
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.storage.outages import Observer
from dpt_ray.distributed.block_reader import BlockReader, copied
from dpt_ray.distributed.datasource import divide_segments, rows_in, segment_dataset, shared
from dpt_ray.distributed.node_capacity import READER_CPUS
from dpt_ray.distributed.starved_stream import Starvation, never_starved

BLOCK_BYTES = 32 * 2**20
"""Most bytes of a block's decoded images."""

TASK_BLOCKS, LEAST_TASK_BLOCKS = 16, 4
"""Most and fewest blocks of a read task. Blocks are smaller where the object store has no space for the fewest."""

MOST_EXECUTIONS = 4
"""Most Ray Data executions of a stream. An execution polls every 0.1 s unless all its running tasks have events, so a
reader with an execution of its own is hardly ever idle between two tasks. But each execution takes CPU time from the
worker."""

TASKS_AHEAD = 64
"""Read tasks of each reader in one Ray Data execution. Readers pause between two executions."""


@dataclass
class StreamedImages:
    """A source that is read again in every epoch.

    Attributes:
        source: the source.
        memory: bytes of the object store that one worker's stream may fill.
        readers: how many of the stream's read tasks run at the same time.
        cpus: CPUs that a read task reserves.
        on_unreadable: receives the entries of unreadable shards. If None, such a shard raises.
        on_outage: receives outages of the store that readers meet.
    """

    source: ImageSource
    memory: int
    readers: int = 1
    cpus: float = READER_CPUS
    on_unreadable: OnUnreadable | None = None
    on_outage: Observer | None = None

    def open(
        self,
        *,
        order: ImageOrder,
        lanes: Sequence[int],
        rows_per_lane: int,
        first_step: int,
        stop_step: int | None = None,
        starvation: Starvation | None = None,
        on_outage: Observer | None = None,
    ) -> ReadSegment:
        """Return a function that reads a worker's segments from a Ray Data stream, which prefetches them.

        The other arguments are those of `segment_sequence`.

        Args:
            starvation: how long to wait for readers; the default logs.
            on_outage: receives outages of the store that readers meet; it must pickle.
        """
        self.on_outage = on_outage
        requests = segment_sequence(order, lanes, rows_per_lane, first_step, stop_step)
        reads = self._read(merge_segments(requests, self._merged_rows), starvation or Starvation())
        # A merged segment is read with its first request. The blocks of its other requests wait here. An equal segment
        # may be requested again in the next epoch, so there is a queue for each.
        waiting: dict[Segment, deque[Iterable[Columns]]] = defaultdict(deque)

        def read(segment: Segment) -> Iterable[Columns]:
            if not waiting[segment]:
                for request, blocks in next(reads):
                    waiting[request].append(blocks)
            blocks = waiting[segment].popleft()
            if not waiting[segment]:
                del waiting[segment]
            return blocks

        return read

    def blocks(self, *, starvation: Starvation | None = None, on_outage: Observer | None = None) -> Iterator[Columns]:
        """Yield all rows once, in the source's order, as blocks that Ray Data reads ahead; see `open`."""
        self.on_outage = on_outage
        segments = [Segment(number, 0, count) for number, count in enumerate(self.source.counts)]
        return never_starved(
            self._execute(segments, self.readers), segments, self._read_here, starvation or Starvation()
        )

    def _read(
        self, merged: Iterator[MergedSegment], starvation: Starvation
    ) -> Iterator[list[tuple[Segment, Iterable[Columns]]]]:
        """Yield the requests of each merged segment, with their blocks.

        The segments are assigned to executions that run side by side, so that each of them has blocks ready when the
        worker needs them.
        """
        readers = _equal_shares(self.readers, min(self.readers, MOST_EXECUTIONS))
        pool = BufferPool()
        execution_rows = self._task_rows * TASKS_AHEAD * self.readers
        for planned in divide(merged, execution_rows, lambda item: len(item.segment)):
            assigned = list(assign_segments(planned, len(readers), self._task_rows))
            segments: list[list[Segment]] = [[] for _ in readers]
            for execution, segment in chain.from_iterable(targets for _, targets in assigned):
                segments[execution].append(segment)
            executions = [
                BlockReader(never_starved(self._execute(listed, count), listed, self._read_here, starvation))
                for listed, count in zip(segments, readers, strict=True)
            ]
            # An execution starts when its first block is requested, so all of them are waited for at the same time.
            with ThreadPoolExecutor(len(executions)) as threads:
                list(threads.map(BlockReader.wait, executions))
            for item, targets in assigned:
                first, *others = item.requests
                if not others:
                    # A long segment may be split. Its blocks are taken when the worker comes to them.
                    blocks = (executions[number].take(len(segment)) for number, segment in targets)
                    yield [(first, chain.from_iterable(blocks))]
                    continue
                # A segment of several requests fits into one block, so it is not split.
                execution_reader = executions[targets[0][0]]
                first_blocks = list(execution_reader.take(len(first)))
                later = ((request, list(copied(execution_reader.take(len(request)), pool))) for request in others)
                yield [(first, first_blocks), *later]

    def _execute(self, segments: Sequence[Segment], readers: int) -> Iterator[Columns]:
        """Yield the rows of segments as blocks, from one Ray Data execution with the given number of readers."""
        if not segments:
            return
        tasks = divide_segments(segments, self.source, self._task_rows)
        dataset = segment_dataset(
            self.source, tasks, self._block_rows, self.on_unreadable, self.cpus, self._whole, self.on_outage
        )
        dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(
            # Half of the stream's memory: tasks that run when the limit is reached go on, and fill as much again.
            cpu=self.cpus * readers,
            object_store_memory=self._task_rows * self.source.form.num_bytes * readers,
        )
        yield from dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)

    def _read_here(self, segment: Segment) -> Iterator[Columns]:
        """Yield the rows of a segment as blocks, read in this process."""
        return read_segment(self.source, segment, new_arrays(self.source.form, self._block_rows), self.on_unreadable)

    @cached_property
    def _whole(self) -> Callable[[], ImageSource]:
        """Returns the source in any process. It is put into the object store once for all executions."""
        return shared(self.source)

    @property
    def _block_rows(self) -> int:
        """Rows of a block."""
        return rows_in(min(BLOCK_BYTES, self._task_bytes // LEAST_TASK_BLOCKS), self.source)

    @property
    def _merged_rows(self) -> int:
        """Most rows of merged segments. Their later requests wait in memory, so they are merged only to save reads."""
        return 0 if self.source.has_layouts else self._block_rows

    @property
    def _task_rows(self) -> int:
        """Most rows of a read task."""
        return self._block_rows * max(1, min(TASK_BLOCKS, rows_in(self._task_bytes, self.source) // self._block_rows))

    @property
    def _task_bytes(self) -> int:
        """Bytes of the object store for the blocks of one read task."""
        return self.memory // (2 * self.readers)


def _equal_shares(total: int, shares: int) -> list[int]:
    """Return a number as a sum of shares that differ by at most 1."""
    return [(total + number) // shares for number in range(shares)]
