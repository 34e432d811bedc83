"""A source that is decoded once and kept in the object store."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import ray

from dpt_ray.data.loading.batches import Columns, ReadSegment
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.source import LABEL, ImageSource
from dpt_ray.distributed.block_reader import rows_of


@dataclass
class KeptImages:
    """A source that is decoded once.

    Attributes:
        source: the source.
        references: object-store references of its blocks, in the source's order.
    """

    source: ImageSource
    references: list[ray.ObjectRef[Any]]

    def open(self, **_: Any) -> ReadSegment:
        """Return a function that reads a segment as views of the blocks in the object store."""
        blocks: list[Columns] = ray.get(self.references)
        block_starts = [0, *accumulate(len(block[LABEL]) for block in blocks)]
        shard_starts = [0, *accumulate(self.source.counts)]

        def read(segment: Segment) -> Iterator[Columns]:
            place, stop = (shard_starts[segment.shard] + row for row in (segment.start, segment.stop))
            while place < stop:
                number = bisect_right(block_starts, place) - 1
                first = block_starts[number]
                yield rows_of(blocks[number], place - first, stop - first)
                place = block_starts[number + 1]

        return read
