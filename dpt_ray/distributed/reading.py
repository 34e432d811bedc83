"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both give a worker the same rows in the same order (`data/order.py`); which one is used follows from
the source's size. Each read task fetches one shard whole and decodes the rows that are asked for.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ExecutionResources, ReadTask
from ray.data.block import BlockMetadata
from ray.data.extensions import ArrowTensorArray

from dpt_ray.data.ahead import PlannedRead, plan_reads, segment_sequence
from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.skipped import Skipped
from dpt_ray.data.source import IMAGE, LABEL, ImageSource, read_segment
from dpt_ray.data.stores import is_remote
from dpt_ray.data.stream import Columns, ReadSegment, concatenate
from dpt_ray.distributed.cluster import READER_CPUS, configure_data
from dpt_ray.distributed.failures import user_error

BLOCK_BYTES = 32 * 2**20
"""Decoded images that a read task hands over at once, at most; a shard that is larger comes in several blocks."""

FIRST_READS, MOST_READS = 32, 1024
"""Read tasks of one Ray Data execution while streaming. Executions follow one another, each of twice as many reads as
the one before: the first batch comes soon, and pauses between executions become rare."""

REMOTE_READERS = 2
"""Readers for each CPU where shards come over a network: one fetches while another decodes."""

Note = Callable[[Skipped], None]


class SegmentDatasource(Datasource):
    """Reads segments of an image source, one read task each, into Arrow blocks of uint8 tensors."""

    def __init__(self, source: ImageSource, segments: Sequence[Segment], on_unreadable: Note | None):
        super().__init__()
        self._source, self._segments, self._on_unreadable = source, list(segments), on_unreadable

    def estimate_inmemory_data_size(self) -> int:
        """Return the decoded bytes of all segments."""
        return sum(map(len, self._segments)) * self._source.form.num_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return one task for each segment, whatever parallelism is asked for."""
        shared = ray.put((self._source, self._on_unreadable))  # a source may list a hundred thousand shards
        return [ReadTask(partial(_read_blocks, shared, segment), self._metadata(segment)) for segment in self._segments]

    def _metadata(self, segment: Segment) -> BlockMetadata:
        size = len(segment) * self._source.form.num_bytes
        return BlockMetadata(num_rows=len(segment), size_bytes=size, input_files=None, exec_stats=None)


def _read_blocks(shared: ray.ObjectRef, segment: Segment) -> Iterable[pa.Table]:
    source, on_unreadable = ray.get(shared)
    for columns in read_segment(source, segment, _rows_of_a_block(source), on_unreadable):
        yield pa.table({IMAGE: ArrowTensorArray.from_numpy(columns[IMAGE]), LABEL: columns[LABEL]})


def _rows_of_a_block(source: ImageSource) -> int:
    return max(1, BLOCK_BYTES // source.form.num_bytes)


def _dataset(
    source: ImageSource, segments: Sequence[Segment], on_unreadable: Note | None, cpus: float
) -> ray.data.Dataset:
    configure_data()  # this may be a training worker
    return ray.data.read_datasource(
        SegmentDatasource(source, segments, on_unreadable),
        override_num_blocks=len(segments),
        num_cpus=cpus,
    )


@dataclass
class KeptImages:
    """A source decoded once: an object-store reference for each block's columns, in the source's order."""

    source: ImageSource
    references: list[ray.ObjectRef]

    def open(self, **_: Any) -> ReadSegment:
        """Return how a worker reads a segment: a slice, without a copy where one block holds it."""
        blocks: dict[int, list[Columns]] = {}
        remaining = iter(ray.get(self.references))
        at_once = _rows_of_a_block(self.source)
        for shard, count in enumerate(self.source.counts):
            blocks[shard] = list(islice(remaining, -(-count // at_once)))

        def read(segment: Segment) -> Columns:
            pieces = []
            for number in range(segment.start // at_once, -(-segment.stop // at_once)):
                first = number * at_once
                inside = slice(max(segment.start - first, 0), segment.stop - first)
                pieces.append({name: values[inside] for name, values in blocks[segment.shard][number].items()})
            return concatenate(pieces)

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

    def open(self, *, order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int) -> ReadSegment:
        """Return how a worker reads its segments: from a Ray Data stream that runs ahead of it, in order."""
        asked = segment_sequence(order, lanes, rows_per_lane, first_step)
        reads = self._read(plan_reads(asked, longest=_rows_of_a_block(self.source)))
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
        count = FIRST_READS
        while reads := list(islice(planned, count)):
            count = min(2 * count, MOST_READS)
            dataset = _dataset(self.source, [read.segment for read in reads], self.on_unreadable, self.cpus)
            dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(
                object_store_memory=self.memory
            )
            blocks = iter(dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1))
            for read in reads:
                rows = _take_rows(blocks, len(read.segment))
                yield [(part, _part(rows, part, read.segment)) for part in read.serves]


def _part(rows: Columns, part: Segment, whole: Segment) -> Columns:
    """Return what a read holds of one of its segments.

    It is copied unless it is all: a slice would keep the whole block in the object store until the last part is used.
    """
    if part == whole:
        return rows
    inside = slice(part.start - whole.start, part.stop - whole.start)
    return {name: values[inside].copy() for name, values in rows.items()}


def _take_rows(blocks: Iterator[Columns], rows: int) -> Columns:
    """Join the blocks of one read task."""
    taken = [next(blocks)]
    while (have := sum(len(piece[LABEL]) for piece in taken)) < rows:
        taken.append(next(blocks))
    if have != rows:
        raise RuntimeError(f"a read of {rows} rows came back with {have}")
    return concatenate(taken)


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
        if is_remote(source.shards[0].info.url):
            cpus /= REMOTE_READERS
        return StreamedImages(source, _stream_memory(streams), cpus, on_unreadable)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        # No training competes for CPUs yet.
        dataset = _dataset(source, whole_shards, on_unreadable, READER_CPUS).materialize()
        return KeptImages(source, dataset.to_numpy_refs())
    except Exception as error:
        raise user_error(error) or error from error


STREAM_SHARE = 0.4
"""Share of the object store for all streams together; kept sources and messages need the rest."""


def _stream_memory(streams: int) -> int:
    return int(STREAM_SHARE * ray.cluster_resources()["object_store_memory"] / max(1, streams))
