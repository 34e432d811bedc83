"""The read tasks of Ray Data: segments of an image source, decoded, in blocks of a chosen size."""

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.extensions import ArrowTensorArray

from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.source import IMAGE, LABEL, ImageSource, read_segment
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.distributed.cluster import configure_data

Note = Callable[[Skipped], None]


class SegmentDatasource(Datasource):
    """Reads segments of an image source, in order, into Arrow blocks of tensors; a read task for each group."""

    def __init__(
        self, source: ImageSource, groups: Sequence[Sequence[Segment]], block_rows: int, on_unreadable: Note | None
    ):
        super().__init__()
        self._source, self._groups = source, groups
        self._block_rows, self._on_unreadable = block_rows, on_unreadable

    def estimate_inmemory_data_size(self) -> int:
        """Return the decoded bytes of all segments."""
        return sum(len(segment) for group in self._groups for segment in group) * self._source.form.num_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return one task for each group of segments, whatever parallelism is asked for."""
        # Once for all tasks: a source may list a hundred thousand shards.
        shared = ray.put((self._source, self._block_rows, self._on_unreadable))
        return [ReadTask(partial(_read_blocks, shared, group), self._metadata(group)) for group in self._groups]

    def _metadata(self, group: Sequence[Segment]) -> BlockMetadata:
        rows = sum(map(len, group))
        size = rows * self._source.form.num_bytes
        return BlockMetadata(num_rows=rows, size_bytes=size, input_files=None, exec_stats=None)


def _read_blocks(shared: ray.ObjectRef[Any], group: Sequence[Segment]) -> Iterator[pa.Table]:
    """Yield the rows of a group of segments in blocks, all but the last one full."""
    source, block_rows, on_unreadable = ray.get(shared)
    if gc.get_freeze_count() == 0:
        gc.freeze()  # else Ray's and its libraries' objects are walked again and again, while samples come and go
    images = _room_for(min(block_rows, sum(map(len, group))), source)
    pieces: list[Columns] = []
    filled = 0

    def room(rows: int) -> np.ndarray:
        return images[filled : filled + rows]

    for segment in group:
        for piece in read_segment(source, segment, room, on_unreadable):
            pieces.append(piece)
            filled += len(piece[LABEL])
            if filled == len(images):
                yield _block(images, pieces)
                pieces, filled = [], 0
    if pieces:
        yield _block(images[:filled], pieces)


_room = np.empty(0, np.uint8)


def _room_for(rows: int, source: ImageSource) -> np.ndarray:
    """Return room for a block, the same for every block of this process: fresh memory costs a tenth more.

    A block has been copied to the object store when its task goes on; see `_let_through`.
    """
    global _room
    size = rows * source.form.num_bytes
    if len(_room) < size:
        _room = np.empty(size, np.uint8)
    return _room[:size].view(source.form.dtype).reshape(rows, *source.form.shape)


def _block(images: np.ndarray, pieces: Sequence[Columns]) -> pa.Table:
    further = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0] if name != IMAGE}
    return pa.table({**further, IMAGE: ArrowTensorArray.from_numpy(images)})


def rows_of(num_bytes: int, source: ImageSource) -> int:
    """Return how many of a source's images have so many bytes once decoded; no more than there are."""
    return max(1, min(num_bytes // source.form.num_bytes, source.num_images))


_NEVER_STALLED = {"_generator_backpressure_num_objects": -1}
"""Else a task whose blocks nobody takes yet would wait for that, and hold a CPU for which others may wait: those of
another stream, without whose blocks these are not taken."""


def segment_dataset(
    source: ImageSource,
    groups: Sequence[Sequence[Segment]],
    block_rows: int,
    on_unreadable: Note | None,
    cpus: float,
) -> ray.data.Dataset:
    """Return a data set with the rows of all segments, in order.

    Args:
        source: what to read.
        groups: the segments that each read task takes.
        block_rows: rows of a block, at most.
        on_unreadable: see `read_segment`.
        cpus: what a read task reserves.
    """
    configure_data()  # this may be a training worker
    datasource = SegmentDatasource(source, groups, block_rows, on_unreadable)
    dataset = ray.data.read_datasource(
        datasource, override_num_blocks=len(groups), num_cpus=cpus, ray_remote_args=_NEVER_STALLED
    )
    _let_through(dataset, block_rows * (source.form.num_bytes + _NUMBER_BYTES * (1 + len(source.columns))))
    return dataset


_NUMBER_BYTES = 8
"""Of a label, and of a further column's value at most."""


def _let_through(dataset: ray.data.Dataset, block_bytes: int) -> None:
    """Let Ray Data pass on each full block as soon as a task yields it.

    It collects blocks until they have more than a target, and cuts those that have half as much again; without a
    target it joins all blocks of a task. A block that waits for others would have its room filled again meanwhile.
    """
    dataset.context.target_max_block_size = block_bytes * 3 // 4
