"""Rows of consecutive blocks."""

from collections.abc import Iterator

from dpt_ray.data.buffer_pool import BufferPool
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.source import LABEL


class BlockReader:
    """Takes rows in order from consecutive blocks."""

    def __init__(self, blocks: Iterator[Columns]):
        self._blocks = blocks
        self._rest: Columns = {}

    def wait(self) -> None:
        """Wait for the first block, if there is one."""
        self._rest = self._rest or next(self._blocks, {})

    def take(self, count: int) -> Iterator[Columns]:
        """Yield the next `count` rows as views of the blocks that hold them."""
        while count:
            block = self._rest or next(self._blocks)
            taken = min(count, len(block[LABEL]))
            self._rest = rows_of(block, taken, None) if taken < len(block[LABEL]) else {}
            count -= taken
            yield rows_of(block, 0, taken)
            # A reference here would keep the block in the object store while the next one is waited for.
            del block


def rows_of(columns: Columns, start: int, stop: int | None) -> Columns:
    """Return some rows of all columns, as views."""
    return {name: values[start:stop] for name, values in columns.items()}


def copied(blocks: Iterator[Columns], pool: BufferPool) -> Iterator[Columns]:
    """Copy blocks that are used later: a view would keep its whole block in the object store until then."""
    for block in blocks:
        copy: Columns = {}
        for name, values in block.items():
            copy[name] = pool.empty(values.shape, values.dtype)
            copy[name][:] = values
        yield copy
