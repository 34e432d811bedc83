"""The places of a set's sidecars, without a text for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.storage import stores


@dataclass(frozen=True, eq=False)
class SidecarUrls:
    """The URL of the sidecar of each shard of a set. It pickles to a few bytes for each shard that is left out.

    Attributes:
        folder: URL of the sidecars' folder.
        shards: number of shards.
        gaps: numbers that no sidecar's name has although a larger one is there, less the gaps before each: the number
            of a shard is its position and the number of gaps up to that position. int32 (G,), ascending.
        absent: positions of shards without a sidecar, int32 (A,), ascending.
    """

    folder: str
    shards: int
    gaps: np.ndarray
    absent: np.ndarray

    def __len__(self) -> int:
        return self.shards

    def __getitem__(self, position: int) -> str | None:
        place = int(np.searchsorted(self.absent, position))
        if place < len(self.absent) and self.absent[place] == position:
            return None
        number = position + int(np.searchsorted(self.gaps, position, "right"))
        return stores.join(self.folder, sidecar_name(number))


def numbered_sidecars(folder: str, numbers: Sequence[int]) -> SidecarUrls:
    """Return the sidecars in a folder whose names have ascending numbers, one for each shard."""
    found = np.array(numbers, np.int64)
    missing = np.setdiff1d(np.arange(found[-1] + 1 if len(found) else 0), found)
    gaps = (missing - np.arange(len(missing))).astype(np.int32)
    return SidecarUrls(folder, len(found), gaps, np.zeros(0, np.int32))


def sidecars_where(folder: str, made: Sequence[bool]) -> SidecarUrls:
    """Return the sidecars in a folder that are named by the positions of their shards, where they were made."""
    return SidecarUrls(folder, len(made), np.zeros(0, np.int32), np.flatnonzero(~np.array(made, bool)).astype(np.int32))


def label_sidecars(index: DatasetIndex) -> SidecarUrls:
    """Return the sidecars with the true labels of a set; see `DatasetIndex.label_sidecar` for who may read them."""
    return numbered_sidecars(index.label_folder, [shard.number for shard in index.shards])
