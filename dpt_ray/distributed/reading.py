"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both give a worker the same rows in the same order (`data/order.py`); which one is used follows from
the source's size. Each read task fetches one shard whole and decodes the rows that are asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.extensions import ArrowTensorArray

from dpt_ray.data.order import ImageOrder, Segment
from dpt_ray.data.source import LABEL, ImageSource, SourceShard, read_rows
from dpt_ray.data.stream import Columns, ReadSegment, batches
from dpt_ray.distributed.cluster import READER_CPUS, configure_data
from dpt_ray.distributed.failures import user_error

SEGMENTS_AHEAD = 256
"""Read tasks of one Ray Data execution while streaming; the next execution follows it."""


class SegmentDatasource(Datasource):
    """Reads segments of an image source, one read task each, into Arrow blocks of uint8 tensors."""

    def __init__(self, source: ImageSource, segments: Sequence[Segment]):
        super().__init__()
        self._source, self._segments = source, list(segments)

    def estimate_inmemory_data_size(self) -> int:
        """Return the decoded bytes of all segments."""
        return sum(map(self._bytes, self._segments))

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return one task for each segment, whatever parallelism is asked for."""
        return [ReadTask(self._reader(segment), self._metadata(segment)) for segment in self._segments]

    def _reader(self, segment: Segment) -> Callable[[], Iterable[pa.Table]]:
        source = self._source
        shard = source.shards[segment.shard]
        return partial(_read_block, shard, segment, source.image_size, source.channels)

    def _bytes(self, segment: Segment) -> int:
        return len(segment) * self._source.channels * self._source.image_size**2

    def _metadata(self, segment: Segment) -> BlockMetadata:
        return BlockMetadata(num_rows=len(segment), size_bytes=self._bytes(segment), input_files=None, exec_stats=None)


def _read_block(shard: SourceShard, segment: Segment, image_size: int, channels: int) -> list[pa.Table]:
    columns = read_rows(shard, segment.start, segment.stop, image_size=image_size, channels=channels)
    images = ArrowTensorArray.from_numpy(columns["image"])
    return [pa.table({"image": images, LABEL: columns[LABEL]})]


def _dataset(source: ImageSource, segments: Sequence[Segment], cpus: float) -> ray.data.Dataset:
    configure_data()  # this may be a training worker
    return ray.data.read_datasource(
        SegmentDatasource(source, segments),
        override_num_blocks=len(segments),
        num_cpus=cpus,
    )


@dataclass
class KeptImages:
    """A source decoded once: an object-store reference for each shard's columns."""

    source: ImageSource
    references: list[ray.ObjectRef]

    def open(self, **_: Any) -> ReadSegment:
        """Return how a worker reads a segment: a slice, without a copy, of what the object store holds."""
        columns = ray.get(self.references)
        return lambda segment: {
            name: values[segment.start : segment.stop] for name, values in columns[segment.shard].items()
        }


@dataclass
class StreamedImages:
    """A source that is read again in every epoch."""

    source: ImageSource

    def open(self, *, order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int) -> ReadSegment:
        """Return how a worker reads its segments: from a Ray Data stream that runs ahead of it, in order."""
        blocks = self._blocks(order, lanes, rows_per_lane, first_step)
        return lambda segment: next(blocks)

    def _blocks(
        self, order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int
    ) -> Iterator[Columns]:
        segments = segment_sequence(order, lanes, rows_per_lane, first_step)
        while True:
            wanted = list(islice(segments, SEGMENTS_AHEAD))
            stream = _dataset(self.source, wanted, READER_CPUS).iter_batches(
                batch_size=None, batch_format="numpy", prefetch_batches=1
            )
            pieces = iter(stream)
            for segment in wanted:
                yield _take_segment(pieces, len(segment))


def _take_segment(pieces: Iterator[Columns], rows: int) -> Columns:
    """Join the blocks of one read task: Ray Data cuts a block that is larger than its target size."""
    taken = [next(pieces)]
    while (have := sum(len(piece[LABEL]) for piece in taken)) < rows:
        taken.append(next(pieces))
    if have != rows:
        raise RuntimeError(f"a segment of {rows} rows came back with {have}")
    return taken[0] if len(taken) == 1 else {name: np.concatenate([p[name] for p in taken]) for name in taken[0]}


def segment_sequence(order: ImageOrder, lanes: Sequence[int], rows_per_lane: int, first_step: int) -> Iterator[Segment]:
    """Yield, without end, the segments that a worker will read, in the order in which it asks for them.

    The worker's own reading is played through with rows that are never read.
    """
    asked: list[Segment] = []

    def record(segment: Segment) -> Columns:
        asked.append(segment)
        return {LABEL: np.zeros(len(segment), np.int8)}

    for _ in batches(order, record, lanes=lanes, rows_per_lane=rows_per_lane, first_step=first_step):
        yield from asked
        asked.clear()


def open_source(source: ImageSource, keep_bytes: int) -> KeptImages | StreamedImages:
    """Decode and keep a source that is small enough; stream a larger one.

    Raises:
        UserError: a shard or image that cannot be read.
    """
    if source.decoded_bytes > keep_bytes:
        return StreamedImages(source)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        dataset = _dataset(source, whole_shards, cpus=1.0).materialize()  # no training competes for CPUs yet
        references = dataset.to_numpy_refs()
    except Exception as error:
        raise user_error(error) or error from error
    if len(references) != len(whole_shards):  # a block was cut: a shard larger than Ray Data's block size
        return StreamedImages(source)
    return KeptImages(source, references)
