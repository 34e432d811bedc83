"""A pool of memory buffers: the first write to fresh memory costs a reader as much as the copy itself."""

import math
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np

LEAST_BYTES = 2**20
"""The allocator reuses smaller buffers by itself."""


class BufferPool:
    """Allocates arrays. A buffer is used again once no array or view of it is alive.

    Any thread may allocate arrays and drop them.

    Args:
        most_spare: largest number of unused buffers; beyond it the oldest is freed.
        most_excess: largest ratio of a buffer's size to the size of the array in it.
        least_bytes: arrays of fewer bytes are allocated without the pool.
    """

    def __init__(self, *, most_spare: int = 8, most_excess: float = 2.0, least_bytes: int = LEAST_BYTES) -> None:
        # A lock could be taken twice by one thread: the garbage collector may drop an array in the middle of a call.
        # The methods of a deque are atomic and need none.
        self._spare: deque[bytearray] = deque(maxlen=most_spare)
        self._most_excess, self._least_bytes = most_excess, max(1, least_bytes)

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return an array with undefined values."""
        size = math.prod(shape) * dtype.itemsize
        if size < self._least_bytes:
            return np.empty(shape, dtype)
        buffer = self._take(size)
        owner = np.frombuffer(buffer, np.uint8)
        # All views of `owner` refer to it directly, so it dies with the last of them.
        weakref.finalize(owner, self._spare.append, buffer)
        return owner[:size].view(dtype).reshape(shape)

    def _take(self, size: int) -> bytearray:
        for _ in range(len(self._spare)):
            try:
                buffer = self._spare.popleft()
            except IndexError:  # another thread took the last one
                break
            if size <= len(buffer) <= self._most_excess * size:
                return buffer
            self._spare.append(buffer)
        return bytearray(size)
