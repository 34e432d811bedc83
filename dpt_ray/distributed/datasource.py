"""The read tasks of Ray Data: segments of an image source, decoded, in blocks of a chosen size."""

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.data.extensions import ArrowTensorArray

from dpt_ray.data.order import Segment
from dpt_ray.data.skipped import Skipped
from dpt_ray.data.source import IMAGE, ImageSource, read_segment
from dpt_ray.data.stream import Columns
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


def _read_blocks(shared: ray.ObjectRef, group: Sequence[Segment]) -> Iterator[pa.Table]:
    """Yield the rows of a group: one block for several segments, which fit into one, or parts of a single long one."""
    source, block_rows, on_unreadable = ray.get(shared)
    if gc.get_freeze_count() == 0:
        gc.freeze()  # else Ray's and its libraries' objects are walked again and again, while samples come and go
    if len(group) == 1:
        for columns in read_segment(source, group[0], block_rows, on_unreadable):
            yield _block(columns)
    else:
        images = _room_for(sum(map(len, group)), source)
        pieces: list[Columns] = []
        for segment, stop in zip(group, accumulate(map(len, group)), strict=True):
            place = images[stop - len(segment) : stop]
            pieces += read_segment(source, segment, block_rows, on_unreadable, place)
        further = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0] if name != IMAGE}
        yield _block({IMAGE: images, **further})


_room = np.empty(0, np.uint8)


def _room_for(rows: int, source: ImageSource) -> np.ndarray:
    """Return room for a task's one block, the same at every task of this process: fresh memory costs a tenth more.

    A task's block has been copied to the object store when the next task begins.
    """
    global _room
    size = rows * source.form.num_bytes
    if len(_room) < size:
        _room = np.empty(size, np.uint8)
    return _room[:size].view(source.form.dtype).reshape(rows, *source.form.shape)


def _block(columns: Columns) -> pa.Table:
    return pa.table({**columns, IMAGE: ArrowTensorArray.from_numpy(columns[IMAGE])})


def rows_of(num_bytes: int, source: ImageSource) -> int:
    """Return how many of a source's images have so many bytes once decoded; no more than there are."""
    return max(1, min(num_bytes // source.form.num_bytes, source.num_images))


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
        groups: the segments that each read task takes: one, or several of `block_rows` rows together at most.
        block_rows: rows of a block, at most.
        on_unreadable: see `read_segment`.
        cpus: what a read task reserves.
    """
    configure_data()  # this may be a training worker
    datasource = SegmentDatasource(source, groups, block_rows, on_unreadable)
    return ray.data.read_datasource(datasource, override_num_blocks=len(groups), num_cpus=cpus)
