"""Some images of a shard, fetched in ranges of bytes and compared with the checksums of its stored layout."""

from collections.abc import Iterator, Sequence

import numpy as np

from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.layouts import Layout
from dpt_ray.data.shards.samples import CHANGED
from dpt_ray.data.shards.stored_layouts import image_checksum
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

GAP_BYTES = 128 * 2**10
"""Most bytes between two images that are fetched with them. An object store transfers more than that in the time that
another request would wait."""

FETCH_BYTES = 32 * 2**20
"""Most bytes of images that are fetched before they are decoded."""


def split_rows(layout: Layout, rows: Sequence[int]) -> Iterator[slice]:
    """Yield slices of `rows`, in order, whose images have at most `FETCH_BYTES` together; a larger image is alone."""
    sizes = (layout.stops - layout.starts)[list(rows)].tolist()
    first, total = 0, 0
    for place, size in enumerate(sizes):
        if place > first and total + size > FETCH_BYTES:
            yield slice(first, place)
            first, total = place, 0
        total += size
    if rows:
        yield slice(first, len(sizes))


def fetch_images(shard: ShardInfo, layout: Layout, rows: Sequence[int]) -> dict[int, bytes]:
    """Fetch some images of a shard.

    Args:
        shard: the shard.
        layout: its stored layout.
        rows: numbers of samples, in any order.

    Returns:
        Number of a sample -> its image's file. Images that differ from their checksums are left out.

    Raises:
        UserError: the shard cannot be read.
    """
    assert layout.checksums is not None
    found = {}
    for group in near_rows(layout, sorted(set(rows))):
        first, stop = int(layout.starts[group].min()), int(layout.stops[group].max())
        content = stores.read_range(shard.url, first, stop)
        for row in group:
            image = content[layout.starts[row] - first : layout.stops[row] - first]
            if image_checksum(image) == layout.checksums[row]:
                found[row] = image
    return found


def near_rows(layout: Layout, rows: list[int]) -> list[list[int]]:
    """Return rows in groups between which more than `GAP_BYTES` would be fetched in vain."""
    if not rows:
        return []
    gaps = layout.starts[rows[1:]] - layout.stops[rows[:-1]]
    return [group.tolist() for group in np.split(np.array(rows), np.flatnonzero(gaps > GAP_BYTES) + 1)]


def images_differ(shard: ShardInfo, keys: Sequence[str]) -> UserError:
    """Return the error for images of a shard that differ from their checksums."""
    what = f"sample {keys[0]!r}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
    return UserError(f"the image of {what} differs from its index (checksum)", where=shard.url, fix=CHANGED)
