"""Keys and pixels that occur twice in a data set."""

import numpy as np
import pandas as pd

from dpt_ray.data.images.perceptual_hash import PIXEL_HASH
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.errors import UserError


def check_images(sidecars: list[str], shards: list[str]) -> int:
    """Refuse a key in two shards, and return the number of images with the pixels of another one.

    Memory holds hashes of keys and pixels only, 16 bytes an image.

    Raises:
        UserError: two samples have the same key.
    """
    hashes, pixels = [], []
    for url in sidecars:
        columns = read_sidecar(url, [PIXEL_HASH])
        hashes.append(pd.util.hash_array(np.array(columns[KEY], dtype=object)))
        pixels.append(columns[PIXEL_HASH][:, 0].copy())
    _refuse_duplicate_keys(hashes, sidecars, shards)
    images = np.concatenate(pixels)
    return len(images) - len(np.unique(images))


def _refuse_duplicate_keys(hashes: list[np.ndarray], sidecars: list[str], shards: list[str]) -> None:
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    if len(values) == counts.sum():
        return
    repeated = values[counts > 1][0]
    holders = [number for number, shard in enumerate(hashes) if repeated in shard]
    key = read_sidecar(sidecars[holders[0]], [])[KEY][int(np.flatnonzero(hashes[holders[0]] == repeated)[0])]
    raise UserError(
        f"the key {key!r} is also in {shards[holders[-1]]}",
        where=shards[holders[0]],
        fix="keys must be unique over all shards: pseudo-labels are joined on them",
    )
