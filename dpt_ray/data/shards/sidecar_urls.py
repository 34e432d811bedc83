"""The places of a set's sidecars, without a text for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.storage import stores


@dataclass(frozen=True, eq=False)
class SidecarUrls:
    """The URL of the sidecar of each shard of a set; as it is pickled, 4 B a shard at most.

    Attributes:
        folder: URL of the sidecars' folder.
        shards: number of shards.
        numbers: number in the name of each shard's sidecar, int32 (shards,), negative for a shard without one; None if
            it is the shard's position.
    """

    folder: str
    shards: int
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return self.shards

    def __getitem__(self, position: int) -> str | None:
        number = position if self.numbers is None else int(self.numbers[position])
        return None if number < 0 else stores.join(self.folder, sidecar_name(number))


def numbered_sidecars(folder: str, numbers: Sequence[int]) -> SidecarUrls:
    """Return the sidecars with these numbers in a folder, negative for a shard without one."""
    found = np.array(numbers, np.int32)
    in_order = np.array_equal(found, np.arange(len(found)))
    return SidecarUrls(folder, len(found), None if in_order else found)


def label_sidecars(index: DatasetIndex) -> SidecarUrls:
    """Return the sidecars with the true labels of a set; see `DatasetIndex.label_sidecar` for who may read them."""
    return numbered_sidecars(index.label_folder, [shard.number for shard in index.shards])
