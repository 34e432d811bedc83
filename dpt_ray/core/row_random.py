"""Random numbers that belong to rows of a batch, never to a process.

A result must not depend on the number of workers. So no code draws from a global generator. It draws from a
`RowRandom`, whose row i gets the same numbers on every worker and in every batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpt_ray.core.philox.distribution import LARGEST_HIGH, Distribution
from dpt_ray.core.philox.draws import draw
from dpt_ray.core.transfer import to_device


class RowRandom:
    """Independent random streams; each serves a fixed number of consecutive rows of a batch.

    In training a stream belongs to a lane of the data order (`data/loading/order.py`) and serves the lane's rows of the
    step. In sampling a stream belongs to an image. A draw of shape S returns (rows, *S).

    A number is a function of (seed of its stream, index of the draw, position in the draw) alone, and is computed on
    the device where it is used; see `core/philox`. The only state is the index of the next draw, which starts at 0. A
    captured or compiled step makes its `RowRandom` from a tensor of seeds, which is its only random input.

    Args:
        seeds: one seed per stream, in [0, 2^63); a tensor is int64 (streams,).
        rows_per_stream: number of rows that each stream serves; rows = len(seeds) * rows_per_stream.
        device: the device of the returned tensors.
    """

    def __init__(
        self, seeds: Sequence[int] | Tensor, rows_per_stream: int = 1, device: torch.device | str | None = None
    ):
        if not isinstance(seeds, Tensor):
            seeds = torch.tensor(seeds, dtype=torch.int64)
        self.seeds = seeds if device is None else to_device(seeds, device)
        self.rows_per_stream = rows_per_stream
        self._draws = 0

    @property
    def device(self) -> torch.device:
        """The device of the returned tensors."""
        return self.seeds.device

    def split(self, count: int) -> "list[RowRandom]":
        """Split the streams into `count` groups, whose sizes differ by at most 1; each serves the rows of its streams.

        Raises:
            ValueError: there are fewer streams than groups.
        """
        if len(self.seeds) < count:
            raise ValueError(f"{len(self.seeds)} random streams cannot be cut into {count} parts")
        groups = [RowRandom(seeds, self.rows_per_stream) for seeds in self.seeds.tensor_split(count)]
        for group in groups:
            group._draws = self._draws
        return groups

    def __len__(self) -> int:
        return len(self.seeds) * self.rows_per_stream

    def uniform(self, *shape: int) -> Tensor:
        """Return uniform float32 numbers in [0, 1), multiples of 2^-24, shape (rows, *shape)."""
        return self._draw("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal float32 numbers, shape (rows, *shape)."""
        return self._draw("normal", shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return uniform int64 numbers in [0, high), shape (rows, *shape).

        Raises:
            ValueError: `high` is not in 1..2^31.
        """
        if not 0 < high <= LARGEST_HIGH:
            raise ValueError(f"random integers need a bound in 1..{LARGEST_HIGH}: got {high}")
        return self._draw("integers", shape, high)

    def _draw(self, distribution: Distribution, shape: tuple[int, ...], high: int = 0) -> Tensor:
        index, self._draws = self._draws, self._draws + 1
        count = self.rows_per_stream
        for length in shape:
            count *= length
        return draw(self.seeds, index, count, distribution, high).view(len(self), *shape)
