"""The read tasks of Ray Data: they decode segments of an image source into blocks of a chosen size."""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.extensions import ArrowTensorArray

from dpt_ray.data.buffer_pool import BufferPool
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.prefetch_plan import divide
from dpt_ray.data.loading.segment_source import SegmentSource, cut
from dpt_ray.data.loading.segments import OnUnreadable, read_segments
from dpt_ray.data.loading.source import IMAGE, LABEL, ImageSource
from dpt_ray.data.storage.outages import Observer, outages
from dpt_ray.data.storage.stores import is_remote
from dpt_ray.distributed.connection import configure_data
from dpt_ray.distributed.messages import packed, unpacked
from dpt_ray.distributed.ray_internals import WITHOUT_BACKPRESSURE


class SegmentDatasource(Datasource):
    """Reads segments of an image source, in order, into Arrow tables with a tensor column.

    Args:
        source: the source.
        tasks: the segments of each read task.
        block_rows: most rows of a block.
        on_unreadable: see `read_segments`.
        whole: returns the source in any process.
        on_outage: receives outages of the store that a task meets; it must pickle.
    """

    def __init__(
        self,
        source: ImageSource,
        tasks: Sequence[Sequence[Segment]],
        block_rows: int,
        on_unreadable: OnUnreadable | None,
        whole: Callable[[], ImageSource],
        on_outage: Observer | None,
    ):
        super().__init__()
        self._source, self._tasks = source, tasks
        self._read = partial(
            _read_blocks, whole=whole, block_rows=block_rows, on_unreadable=on_unreadable, on_outage=on_outage
        )

    def estimate_inmemory_data_size(self) -> int:
        """Return the decoded bytes of all segments."""
        return sum(len(segment) for segments in self._tasks for segment in segments) * self._source.form.num_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the read tasks; their number does not depend on `parallelism`.

        A task gets the entries of its own shards, since a source may list a hundred thousand.
        """
        return [
            ReadTask(partial(self._read, self._pack(segments)), self._metadata(segments)) for segments in self._tasks
        ]

    def _pack(self, segments: Sequence[Segment]) -> bytes:
        source = self._source
        shards = [cut(source.shards[segment.shard], segment.start, segment.stop) for segment in segments]
        return packed((source.form, source.columns, source.num_shards, list(zip(segments, shards, strict=True))))

    def _metadata(self, segments: Sequence[Segment]) -> BlockMetadata:
        rows = sum(map(len, segments))
        size = rows * self._source.form.num_bytes
        return BlockMetadata(num_rows=rows, size_bytes=size, input_files=None, exec_stats=None)


_buffers = BufferPool(most_spare=1, most_excess=math.inf, least_bytes=0)
"""The memory of this process's blocks. One buffer, as large as the largest block so far, serves them all."""


def _read_blocks(
    task: bytes,
    *,
    whole: Callable[[], ImageSource],
    block_rows: int,
    on_unreadable: OnUnreadable | None,
    on_outage: Observer | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a read task in blocks, all but the last one full."""
    with outages.observed(on_outage) if on_outage is not None else nullcontext():
        yield from _decode_blocks(task, whole, block_rows, on_unreadable)


def _decode_blocks(
    task: bytes, whole: Callable[[], ImageSource], block_rows: int, on_unreadable: OnUnreadable | None
) -> Iterator[pa.Table]:
    form, columns, num_shards, listed = unpacked(task)
    if gc.get_freeze_count() == 0:
        # Samples trigger many collections, each of which would visit all objects of Ray and its libraries.
        gc.freeze()
    # All blocks of the task are decoded into the same array. Ray Data copies each to the object store before the task
    # continues; see `_pass_on_full_blocks`.
    most_rows = min(block_rows, sum(len(segment) for segment, _ in listed))
    images = _buffers.empty((most_rows, *form.shape), form.dtype)
    views: list[Columns] = []
    filled = 0

    def allocate(rows: int) -> np.ndarray:
        return images[filled : filled + rows]

    reads = [(SegmentSource(form, columns, num_shards, segment, own, whole), segment) for segment, own in listed]
    # A file system reads ahead by itself.
    fetch_ahead = any(is_remote(own.url) for _, own in listed)
    for view in read_segments(reads, allocate, on_unreadable, fetch_ahead=fetch_ahead):
        views.append(view)
        filled += len(view[LABEL])
        if filled == len(images):
            yield _to_table(images, views)
            views, filled = [], 0
    if views:
        yield _to_table(images[:filled], views)


def _to_table(images: np.ndarray, views: Sequence[Columns]) -> pa.Table:
    """Return a block of `images` and the other columns of the views that fill it."""
    further = {name: np.concatenate([view[name] for view in views]) for name in views[0] if name != IMAGE}
    columns = {name: values if values.ndim == 1 else _tensors(values) for name, values in further.items()}
    return pa.table({**columns, IMAGE: _tensors(images)})


def _tensors(values: np.ndarray) -> pa.Array:
    return ArrowTensorArray.from_numpy(values)


def rows_in(num_bytes: int, source: ImageSource) -> int:
    """Return how many decoded images of a source fit into `num_bytes`, from 1 to the number of its images."""
    return max(1, min(num_bytes // source.form.num_bytes, source.num_images))


def segment_dataset(
    source: ImageSource,
    tasks: Sequence[Sequence[Segment]],
    block_rows: int,
    on_unreadable: OnUnreadable | None,
    cpus: float,
    whole: Callable[[], ImageSource] | None = None,
    on_outage: Observer | None = None,
) -> ray.data.Dataset:
    """Return a data set with the rows of all segments, in order.

    Args:
        source: the source.
        tasks: the segments of each read task.
        block_rows: most rows of a block.
        on_unreadable: see `read_segments`.
        cpus: CPUs that a read task reserves.
        whole: returns the source in any process; None to put the source into the object store for that.
        on_outage: see `SegmentDatasource`.
    """
    configure_data()  # the calling process may be a training worker, whose Ray Data has its default settings
    datasource = SegmentDatasource(source, tasks, block_rows, on_unreadable, whole or shared(source), on_outage)
    # A stalled task would keep its CPU, and another stream that the same worker needs could wait for that CPU for ever.
    dataset = ray.data.read_datasource(
        datasource, override_num_blocks=len(tasks), num_cpus=cpus, ray_remote_args=WITHOUT_BACKPRESSURE
    )
    _pass_on_full_blocks(dataset, block_rows * (source.form.num_bytes + _NUMBER_BYTES * (1 + len(source.columns))))
    return dataset


def shared(source: ImageSource) -> Callable[[], ImageSource]:
    """Put a source into the object store; return a function that gets it in any process."""
    reference = ray.put(source)
    return lambda: ray.get(reference)


def divide_segments(segments: Sequence[Segment], source: ImageSource, most_rows: int) -> list[list[Segment]]:
    """Divide the segments of a source into read tasks, each with at most `most_rows` rows and a short message."""
    has_entries = any(shard.rows is not None or shard.labels is not None for shard in source.shards)
    rows = min(most_rows, MOST_LISTED_ROWS) if has_entries else most_rows
    return [few for task in divide(segments, rows, len) for few in divide(task, MOST_TASK_SEGMENTS, lambda segment: 1)]


MOST_TASK_SEGMENTS, MOST_LISTED_ROWS = 384, 6144
"""Most segments of a read task, each of which has the entry of its shard; most rows that have an entry of their own.
With them the message of a task has at most 64 kB."""

_NUMBER_BYTES = 8
"""Bytes of a label; most bytes of a value of a further column."""


def _pass_on_full_blocks(dataset: ray.data.Dataset, block_bytes: int) -> None:
    """Let Ray Data copy each full block to the object store as soon as a task yields it.

    Ray Data collects yielded blocks until they exceed a target size, and splits blocks of more than 1.5 times that
    size. Without a target it collects all blocks of a task, and the array of a waiting block would be overwritten.
    """
    dataset.context.target_max_block_size = block_bytes * 3 // 4
