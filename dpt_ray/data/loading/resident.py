"""Sources that lie whole on the training device, from which the rows of a step are gathered in the order of the data.

The order is that of `batches.py`: only the numbers of the images are read, shuffled and assigned to steps on the
host. So a batch equals, bit by bit, the batch that is read from the shards.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.transfer import to_device
from dpt_ray.data.loading.batches import INDEX, Columns, batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.source import LABEL


@dataclass(frozen=True)
class ResidentSource:
    """All rows of a source on one device.

    Attributes:
        columns: name -> values (N, ...) in the order of the source; images stay uint8, and moments of latents keep the
            type in which they are stored.
    """

    columns: Mapping[str, Tensor]

    @classmethod
    def filled(cls, blocks: Iterable[Columns], rows: int, device: torch.device | str) -> "ResidentSource":
        """Copy a source to a device, block by block.

        Args:
            blocks: all rows of the source, in its order.
            rows: number of rows, N.
            device: the device.

        Raises:
            ValueError: the blocks hold another number of rows.
        """
        columns: dict[str, Tensor] = {}
        start = 0
        for block in blocks:
            stop = start + len(block[LABEL])
            if stop > rows:
                break
            for name, values in block.items():
                block_values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
                if name not in columns:
                    shape = (rows, *block_values.shape[1:])
                    columns[name] = torch.empty(shape, dtype=block_values.dtype, device=device)
                columns[name][start:stop] = to_device(block_values, device)
            start = stop
        if start != rows:
            raise ValueError(f"a source of {rows} images was read as {start} rows")
        return cls(columns)

    @property
    def num_bytes(self) -> int:
        """Bytes of all columns."""
        return sum(values.nbytes for values in self.columns.values())

    def batches(
        self, order: ImageOrder, *, lanes: Sequence[int], rows_per_lane: int, first_step: int
    ) -> Iterator[dict[str, Tensor]]:
        """Yield what `batches` of `batches.py` yields for the same arguments, as tensors on the device."""
        numbered = batches(order, read_nothing, lanes=lanes, rows_per_lane=rows_per_lane, first_step=first_step)
        for step in numbered:
            device = next(iter(self.columns.values())).device
            index = to_device(torch.from_numpy(step[INDEX]), device)
            yield {INDEX: index, **{name: values.index_select(0, index) for name, values in self.columns.items()}}


def read_nothing(segment: Segment) -> list[Columns]:
    """Read a segment without its images: `batches` adds the numbers of the rows, which are all that is used."""
    return [{LABEL: np.empty(len(segment), np.int8)}]
