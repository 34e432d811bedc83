"""Random numbers that belong to rows of a batch, never to a process.

A result must not depend on the number of workers. So no code draws from a global generator. It draws from a
`RowRandom`, whose row i gets the same numbers on every worker and in every batch.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.transfer import to_device


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed, a fixed function of `parts` that is the same on every platform."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def derive_seeds(parts: Sequence[int | str], last: Iterable[str]) -> np.ndarray:
    """Return `derive_seed(*parts, text)` for each text of `last`, int64 (N,)."""
    prefix = "".join(f"{part}\x1f" for part in parts).encode()
    sha256 = hashlib.sha256
    digests = b"".join([sha256(prefix + text.encode()).digest()[:8] for text in last])
    return (np.frombuffer(digests, "<u8") >> np.uint64(1)).astype(np.int64)


class RowRandom:
    """Independent random streams; each serves a fixed number of consecutive rows of a batch.

    In training a stream belongs to a lane of the data order (`data/loading/order.py`) and serves the lane's rows of the
    step. In sampling a stream belongs to an image. A draw of shape S returns (rows, *S).

    Args:
        seeds: one seed per stream.
        rows_per_stream: number of rows that each stream serves; rows = len(seeds) * rows_per_stream.
        device: the device of the returned tensors. Generators always run on the CPU, so that CPUs and GPUs get the same
            numbers.
    """

    def __init__(self, seeds: Sequence[int], rows_per_stream: int = 1, device: torch.device | str = "cpu"):
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._rows_per_stream = rows_per_stream
        self.device = torch.device(device)

    def split(self, count: int) -> "list[RowRandom]":
        """Split the streams into `count` equal groups; each group serves the rows of its streams.

        Raises:
            ValueError: `count` does not divide the number of streams.
        """
        size, rest = divmod(len(self._generators), count)
        if rest:
            raise ValueError(f"{len(self._generators)} random streams cannot be cut into {count} equal parts")
        starts = range(0, len(self._generators), size)
        return [self._with(self._generators[start : start + size], self.device) for start in starts]

    def on_host(self) -> "RowRandom":
        """Return the same streams with draws on the CPU, for values that the host branches on."""
        return self._with(self._generators, torch.device("cpu"))

    def __len__(self) -> int:
        return len(self._generators) * self._rows_per_stream

    def uniform(self, *shape: int) -> Tensor:
        """Return uniform float32 numbers in [0, 1), shape (rows, *shape)."""
        return self._draw(lambda size, generator: torch.rand(size, generator=generator), shape)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal float32 numbers, shape (rows, *shape)."""
        return self._draw(lambda size, generator: torch.randn(size, generator=generator), shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return uniform int64 numbers in [0, high), shape (rows, *shape)."""
        return self._draw(lambda size, generator: torch.randint(high, size, generator=generator), shape)

    def _with(self, generators: list[torch.Generator], device: torch.device) -> "RowRandom":
        other = RowRandom((), self._rows_per_stream, device)
        other._generators = generators
        return other

    def _draw(self, sample: Callable[[tuple[int, ...], torch.Generator], Tensor], shape: tuple[int, ...]) -> Tensor:
        size = (self._rows_per_stream, *shape)
        return to_device(torch.cat([sample(size, generator) for generator in self._generators]), self.device)
