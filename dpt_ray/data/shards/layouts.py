"""A cache of where the images lie in a shard, by its checksum, so that headers are read once and not in every epoch.

The checksum itself is compared at every read.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dpt_ray.data.shards.archive_samples import Places, head_of, sample_places
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import image_extension
from dpt_ray.errors import UserError

MOST_SAMPLES = 1_000_000
"""Most samples in the cache of a process, of some 30 bytes each."""


@dataclass(frozen=True)
class Layout:
    """The samples of a shard, in order.

    Attributes:
        keys: the keys, one on each line.
        starts: first byte of each image's file in the shard, int64 (N,).
        stops: end of each image's file in the shard, int64 (N,).
        checksums: checksum of each image's file, uint64 (N,); None unless the layout was stored (`stored_layouts.py`).
    """

    keys: str
    starts: np.ndarray
    stops: np.ndarray
    checksums: np.ndarray | None = None

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        return self.keys.split("\n")[row]

    def has_keys(self, keys: list[str]) -> bool:
        """Whether `keys` equals the keys of the samples, in order."""
        return "\n".join(keys) == self.keys

    def without(self, rows: Sequence[int]) -> "Layout":
        """Return the layout without some samples."""
        kept = np.delete(np.arange(len(self.starts)), rows)
        keys = self.keys.split("\n")
        checksums = None if self.checksums is None else self.checksums[kept]
        return Layout("\n".join(keys[row] for row in kept), self.starts[kept], self.stops[kept], checksums)

    def images(self, data: bytes, rows: list[int]) -> list[bytes]:
        """Return the image files of some samples, given the shard's content."""
        places = zip(self.starts[rows].tolist(), self.stops[rows].tolist(), strict=True)
        return [data[start:stop] for start, stop in places]


_lock = threading.Lock()
_known: OrderedDict[str, Layout] = OrderedDict()


def find_layout(data: bytes, shard: ShardInfo) -> Layout | None:
    """Return the layout of a shard's content, whose checksum was compared with the index.

    Returns:
        The layout; None for a shard that is damaged or has unusable samples, which `reliable_samples` reads.
    """
    if shard.skipped:
        return None
    with _lock:
        layout = _known.pop(shard.sha256, None)
    layout = layout or walk(data, shard.url)
    if layout is None or len(layout.starts) != shard.samples:
        return None
    with _lock:
        _known[shard.sha256] = layout  # at the end, as the most recently used
        while len(_known) > 1 and sum(len(known.starts) for known in _known.values()) > MOST_SAMPLES:
            _known.popitem(last=False)
    return layout


def _head(data: bytes, files: Places, name: str) -> bytes:
    return head_of(data, files[name])


def walk(data: bytes, where: str) -> Layout | None:
    """Return the layout of a shard's content; None if it is damaged or a sample has no image."""
    keys: list[str] = []
    places: list[tuple[int, int]] = []
    try:
        for key, files in sample_places(data, where):
            extension = image_extension(files, partial(_head, data, files))
            if extension is None or "\n" in key:
                return None
            keys.append(key)
            places.append(files[extension])
    except UserError:
        return None
    if not places:
        return None
    starts, stops = np.array(places, np.int64).T.copy()
    return Layout("\n".join(keys), starts, stops)
