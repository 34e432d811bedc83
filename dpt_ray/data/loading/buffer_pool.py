"""Memory that is used again: filling fresh pages costs a reader as much as copying into them."""

import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

LEAST_BYTES = 2**20
"""Smaller arrays are left to the allocator, which keeps such pieces itself."""


class Rooms:
    """Hands out arrays; the memory of one serves again once neither it nor a view of it is alive.

    Args:
        most_spare: pieces that lie unused, at most; the oldest is given back to the system.
    """

    def __init__(self, most_spare: int = 8) -> None:
        # Its methods are atomic: arrays may die in any thread, and amid a call.
        self._spare: deque[bytearray] = deque(maxlen=most_spare)

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return an array whose values are undefined."""
        size = int(np.prod(shape)) * dtype.itemsize
        if size < LEAST_BYTES:
            return np.empty(shape, dtype)
        memory = self._take(size)
        owner = np.frombuffer(memory, np.uint8)
        weakref.finalize(owner, self._spare.append, memory)  # numpy's views of it keep it alive, not each other
        return owner[:size].view(dtype).reshape(shape)

    def _take(self, size: int) -> bytearray:
        for _ in range(len(self._spare)):
            try:
                memory = self._spare.popleft()
            except IndexError:
                break
            if size <= len(memory) <= 2 * size:
                return memory
            self._spare.append(memory)
        return bytearray(size)
