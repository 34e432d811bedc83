"""Where the images lie in shards that were read before: content of the same checksum need not be walked again.

Walking the headers of a shard of small images costs a tenth of decoding it, in every epoch. The checksum is compared
at every reading as before.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import numpy as np

from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Places, head_of, image_extension, sample_places
from dpt_ray.errors import UserError

MOST_SAMPLES = 1_000_000
"""Samples whose places a process remembers, at some 30 bytes each."""


@dataclass(frozen=True)
class Layout:
    """The samples of a shard, in order.

    Attributes:
        keys: each on its line.
        starts: int64 (N,), where the image's file begins in the shard.
        stops: int64 (N,), where it ends.
    """

    keys: str
    starts: np.ndarray
    stops: np.ndarray

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        return self.keys.split("\n")[row]

    def has_keys(self, keys: list[str]) -> bool:
        """Whether these are the samples' keys, in order."""
        return "\n".join(keys) == self.keys

    def images(self, data: bytes, rows: list[int]) -> list[bytes]:
        """Return the image files of some samples of the shard with the content `data`."""
        places = zip(self.starts[rows].tolist(), self.stops[rows].tolist(), strict=True)
        return [data[start:stop] for start, stop in places]


_lock = threading.Lock()
_known: OrderedDict[str, Layout] = OrderedDict()


def find_layout(data: bytes, shard: ShardInfo) -> Layout | None:
    """Return the layout of a shard's content, which has the checksum that the index says.

    None is the answer for a shard that is not whole or of which samples are left out: see `reliable_samples`.
    """
    if shard.skipped:
        return None
    with _lock:
        layout = _known.pop(shard.sha256, None)
    layout = layout or _walk(data, shard.url)
    if layout is None or len(layout.starts) != shard.samples:
        return None
    with _lock:
        _known[shard.sha256] = layout  # the last one used
        while len(_known) > 1 and sum(len(known.starts) for known in _known.values()) > MOST_SAMPLES:
            _known.popitem(last=False)
    return layout


def _head(data: bytes, files: Places, name: str) -> bytes:
    return head_of(data, files[name])


def _walk(data: bytes, where: str) -> Layout | None:
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
