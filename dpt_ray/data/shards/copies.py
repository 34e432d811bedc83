"""Images of one data set with the same pixels."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import LabelledImage

Place = tuple[int, int]
"""Position of an image's shard, and its row there."""


class Copies:
    """The images of a data set that have the pixels of another one. The hashes of all images are in memory at once.

    Args:
        index: the data set.
    """

    def __init__(self, index: DatasetIndex):
        hashes = [index.hashes(position).pixels for position in range(len(index.shards))]
        shards = np.repeat(np.arange(len(hashes)), [len(part) for part in hashes])
        rows = np.concatenate([np.arange(len(part)) for part in hashes])
        _, groups, counts = np.unique(np.concatenate(hashes), axis=0, return_inverse=True, return_counts=True)
        repeated = np.flatnonzero(counts[groups] > 1)
        self._group_of: dict[Place, int] = {}
        self._members: dict[int, list[Place]] = defaultdict(list)
        for shard, row, group in zip(*(values[repeated].tolist() for values in (shards, rows, groups)), strict=True):
            self._group_of[shard, row] = group
            self._members[group].append((shard, row))

    def of(self, images: Iterable[LabelledImage]) -> set[Place]:
        """Return the places of the images and of their copies."""
        places = {(image.shard, image.row) for image in images}
        groups = {self._group_of[place] for place in places if place in self._group_of}
        return places.union(*(self._members[group] for group in groups))
