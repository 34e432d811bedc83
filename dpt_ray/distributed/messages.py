"""Messages between the processes of a job on Ray, as bytes. They are never stored, and nobody else's are read."""

import pickle
import zlib
from typing import Any

_FAST = 1
"""Level of compression."""


def packed(message: Any) -> bytes:
    """Return a message as bytes. Entries of shards become much smaller than pickled alone: their URLs are alike."""
    return zlib.compress(pickle.dumps(message, pickle.HIGHEST_PROTOCOL), _FAST)


def unpacked(message: bytes) -> Any:
    """Return what `packed` was given, in another process of the job."""
    return pickle.loads(zlib.decompress(message))
