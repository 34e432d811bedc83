"""Stored layouts: where each image of a shard lies, and its checksum, in one sidecar for each shard.

With it some images of a shard are fetched and checked without the others (`image_ranges.py`).
"""

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.layouts import MOST_SAMPLES, Layout, walk
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar
from dpt_ray.errors import StoreFailureError, UserError

START, STOP, CHECKSUM = "start", "stop", "checksum"
"""Columns beside the key: first byte and end of an image's file in the shard, and its checksum."""


def image_checksum(content: bytes) -> int:
    """Return the checksum of an image's file: the first 64 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def encode_layout(data: bytes, where: str, samples: int) -> bytes:
    """Return the sidecar with the layout of a shard.

    Args:
        data: the shard's content.
        where: its URL.
        samples: number of its usable samples.

    Returns:
        The sidecar. It has no rows if not every sample can be used: such a shard is always read whole.
    """
    layout = walk(data, where)
    if layout is None or len(layout.starts) != samples:
        return encode_sidecar([], {START: np.empty(0, np.int64), STOP: np.empty(0, np.int64), CHECKSUM: _column([])})
    places = zip(layout.starts.tolist(), layout.stops.tolist(), strict=True)
    checksums = [image_checksum(data[start:stop]) for start, stop in places]
    columns = {START: layout.starts, STOP: layout.stops, CHECKSUM: _column(checksums)}
    return encode_sidecar(layout.keys.split("\n"), columns)


def _column(checksums: list[int]) -> np.ndarray:
    return np.array(checksums, np.uint64).reshape(-1, 1)


_lock = threading.Lock()
_known: OrderedDict[str, Layout | None] = OrderedDict()


def read_layout(shard: ShardInfo) -> Layout | None:
    """Return the stored layout of the samples that a shard's index counts, with checksums; a process reads it once.

    Returns:
        The layout; None if the shard has none, or if its sidecar cannot be read.

    Raises:
        StoreFailureError: the store does not answer.
    """
    url = shard.layout_sidecar
    if url is None:
        return None
    with _lock:
        known = url in _known
        whole = _known.pop(url, None)
    if not known:
        whole = _read(url)
    with _lock:
        _known[url] = whole  # at the end, as the most recently used
        while len(_known) > 1 and sum(_samples(layout) for layout in _known.values()) > MOST_SAMPLES:
            _known.popitem(last=False)
    if whole is None or _samples(whole) != shard.samples + len(shard.skipped):
        return None
    return whole.without(shard.skipped) if shard.skipped else whole


def _samples(layout: Layout | None) -> int:
    return len(layout.starts) if layout is not None else 1


def _read(url: str) -> Layout | None:
    try:
        columns = read_sidecar(url, [START, STOP, CHECKSUM])
    except StoreFailureError:
        raise
    except UserError:
        return None
    return Layout("\n".join(columns[KEY]), columns[START], columns[STOP], columns[CHECKSUM][:, 0])
