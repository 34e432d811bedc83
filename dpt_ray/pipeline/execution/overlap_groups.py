"""The search for test images among training images, by groups of shards of the training images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load, save

from dpt_ray.data.images.perceptual_hash import PERCEPTUAL_HASH, PIXEL_HASH, ImageHashes, is_comparable
from dpt_ray.data.shards.duplicates import DuplicateSearch, Found, Limits, Pair
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

_KINDS = ("exact", "near")


@dataclass
class FoundPairs:
    """Pairs of test and training images.

    Attributes:
        exact: those of equal pixels.
        near: those of similar perceptual hashes and different pixels.
        not_compared: number of training images without a perceptual hash.
        test_not_compared: the same of test images.
    """

    exact: Found
    near: Found
    not_compared: int
    test_not_compared: int


def find_pairs(
    context: StepContext, train: DatasetIndex, test: DatasetIndex, limits: Limits, most_listed: int
) -> FoundPairs:
    """Find test images that are also training images, exactly or nearly; see `DuplicateSearch`.

    Every worker holds the hashes of all test images.
    """
    exact, near = (Found(np.zeros(test.num_images, bool)) for _ in _KINDS)
    whole = FoundPairs(exact, near, not_compared=0, test_not_compared=0)
    settings = {
        "train": label_sidecars(train),
        "test": label_sidecars(test),
        "limits": limits,
        "most_listed": most_listed,
    }
    groups = shard_groups([shard.samples for shard in train.shards])
    for content in run_groups(_SearchWorker, settings, groups, context):
        arrays = load(content)
        for kind in _KINDS:
            _merge(getattr(whole, kind), kind, arrays, most_listed)
        not_compared, whole.test_not_compared = arrays["not_compared"].tolist()
        whole.not_compared += not_compared
    return whole


def _merge(found: Found, kind: str, arrays: Mapping[str, np.ndarray], most_listed: int) -> None:
    found.held |= np.unpackbits(arrays[f"{kind}.held"], count=len(found.held)).astype(bool)
    images, pairs = arrays[f"{kind}.counts"].tolist()
    found.images, found.pairs = found.images + images, found.pairs + pairs
    left = max(0, most_listed - len(found.listed))
    listed = arrays[f"{kind}.listed"][:left].tolist()
    found.listed += [Pair(None if bits < 0 else bits, *place) for bits, *place in listed]


class _SearchWorker(GroupWorker):
    def __init__(
        self,
        train: SidecarUrls,
        test: SidecarUrls,
        limits: Limits,
        most_listed: int,
        folder: str,
    ):
        super().__init__(folder)
        self._train, self._limits, self._most_listed = train, limits, most_listed
        parts = [_hashes(test, position) for position in range(len(test))]
        self._held = ImageHashes(
            np.concatenate([part.pixels for part in parts]), np.concatenate([part.perceptual for part in parts])
        )

    def make(self, unit: Group) -> bytes:
        search = DuplicateSearch(self._held, self._limits, self._most_listed)
        for position in unit.positions:
            search.add(position, _hashes(self._train, position))
        not_compared = [search.not_compared, int((~is_comparable(self._held.perceptual)).sum())]
        arrays = {"not_compared": np.array(not_compared)}
        for kind in _KINDS:
            found: Found = getattr(search, kind)
            listed = [(-1 if p.bits is None else p.bits, p.shard, p.row, p.held_row) for p in found.listed]
            arrays |= {
                f"{kind}.held": np.packbits(found.held),
                f"{kind}.counts": np.array([found.images, found.pairs]),
                f"{kind}.listed": np.array(listed, np.int64).reshape(-1, 4),
            }
        return save(arrays)


def _hashes(sidecars: SidecarUrls, position: int) -> ImageHashes:
    """Read the hashes of a shard's images; its labels are not read."""
    url = sidecars[position]
    assert url is not None
    columns = read_sidecar(url, [PIXEL_HASH, PERCEPTUAL_HASH])
    return ImageHashes(columns[PIXEL_HASH], columns[PERCEPTUAL_HASH])
