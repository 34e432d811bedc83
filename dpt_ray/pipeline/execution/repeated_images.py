"""Keys and pixels that occur twice in a data set, found on the cluster by hashes.

Each group of shards sorts the hashes of its images and divides them by their range. Then each part of the range is read
from the files of all groups, and what occurs twice in it is found. So no process holds the hashes of all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from dpt_ray.data.images.perceptual_hash import PIXEL_HASH
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.store import fingerprint
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, group_url, make_files, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

PART_IMAGES = 4_000_000
"""Images of a part of the hashes' range, which one process holds: 28 B each, and as much for sorting."""

RECORD = np.dtype([("first", "<u8"), ("second", "<u8"), ("shard", "<i4"), ("row", "<i4"), ("label", "<i4")])
"""An image: both words of its hash, the position of its shard, its row there, and its true label (-1: none)."""

Kind = Literal["keys", "pixels"]
Wanted = Literal["number", "first", "all"]
"""What is returned of the images that occur twice: their number alone, those of the smallest hash, or all."""


@dataclass(frozen=True, eq=False)
class Repeated:
    """Images that occur several times.

    Attributes:
        number: images that are left out if one of each is kept.
        records: `RECORD` (M,): images of which there are several, sorted by hash, shard and row.
    """

    number: int
    records: np.ndarray


def check_images(context: StepContext, index: DatasetIndex) -> int:
    """Refuse a key in two places, and return the number of images with the pixels of another one.

    Raises:
        UserError: two samples have the same key.
    """
    keys = find_repeated(context, index, "keys", "first").records
    if len(keys):
        first, last = keys[0], keys[-1]
        key = read_sidecar(index.label_sidecar(int(first["shard"])), [])[KEY][int(first["row"])]
        raise UserError(
            f"the key {key!r} is also in {index.shards[int(last['shard'])].url}",
            where=index.shards[int(first["shard"])].url,
            fix="keys must be unique over all shards: pseudo-labels are joined on them",
        )
    return find_repeated(context, index, "pixels", "number").number


def find_repeated(context: StepContext, index: DatasetIndex, kind: Kind, wanted: Wanted) -> Repeated:
    """Find images of a data set whose keys or pixels are those of another one.

    Keys are compared by 64 bits of a hash, and so are pixels where their number alone is wanted; otherwise by 128 bits.
    """
    counts = [shard.samples for shard in index.shards]
    parts = max(1, -(-sum(counts) // PART_IMAGES))
    if not counts:
        return Repeated(0, np.zeros(0, RECORD))
    # A shard that could not be read in an interrupted attempt may be there now, so files of another set are not used.
    groups, folder = shard_groups(counts), context.file(kind, fingerprint([s.sha256 for s in index.shards]))
    sidecars = label_sidecars(index)
    if len(groups) == 1 and parts == 1:
        content = _HashWorker(sidecars, kind, parts, folder).make(groups[0])
        found = [_repeats(_part([lambda start, stop: content[start:stop]], 1, 0), wanted)]
    else:
        settings = {"sidecars": sidecars, "kind": kind, "parts": parts, "folder": folder}
        make_files(_HashWorker, settings, groups, context, sum(counts))
        merging = {"hashes": folder, "starts": [group.start for group in groups], "parts": parts, "wanted": wanted}
        urls = make_files(
            _PartWorker, {**merging, "folder": stores.join(folder, "found")}, list(range(parts)), context, sum(counts)
        )
        found = [stores.read_bytes(url) for url in urls]
        stores.remove_tree(context.file(kind))
    records = [np.frombuffer(content, RECORD, offset=_HEADER) for content in found]
    return Repeated(sum(_numbers(content)[1] for content in found), _those(records, wanted))


def _those(records: Sequence[np.ndarray], wanted: Wanted) -> np.ndarray:
    if wanted == "first":
        return next((part for part in records if len(part)), np.zeros(0, RECORD))
    return np.concatenate(records)


_HEADER = 16


def _numbers(content: bytes) -> tuple[int, int]:
    """Return the images of a part, and those of them that are left out if one of each is kept."""
    images, repeated = np.frombuffer(content[:_HEADER], np.int64).tolist()
    return images, repeated


class _HashWorker(GroupWorker):
    """Its file holds the places of the parts of the range, int64 (parts + 1,), and the records sorted by hash."""

    def __init__(self, sidecars: SidecarUrls, kind: Kind, parts: int, folder: str):
        super().__init__(folder)
        self._sidecars, self._kind, self._parts = sidecars, kind, parts

    def make(self, unit: Group) -> bytes:
        records = np.concatenate([self._of_shard(position) for position in unit.positions])
        records = records[np.argsort(records["first"], kind="stable")]
        bounds = [number * 2**64 // self._parts for number in range(self._parts)]
        places = [*np.searchsorted(records["first"], np.array(bounds, np.uint64)).tolist(), len(records)]
        return np.array(places, np.int64).tobytes() + records.tobytes()

    def _of_shard(self, position: int) -> np.ndarray:
        url = self._sidecars[position]
        assert url is not None
        sidecar = read_sidecar(url, [LABEL, PIXEL_HASH] if self._kind == "pixels" else [LABEL])
        records = np.zeros(len(sidecar[KEY]), RECORD)
        if self._kind == "pixels":
            records["first"], records["second"] = sidecar[PIXEL_HASH].T
        else:
            records["first"] = pd.util.hash_array(np.array(sidecar[KEY], dtype=object))
        records["shard"], records["row"], records["label"] = position, np.arange(len(records)), sidecar[LABEL]
        return records


class _PartWorker(UnitWorker):
    """Finds what occurs twice in a part of the range, which is a unit; see `_repeats` for its file."""

    def __init__(self, hashes: str, starts: Sequence[int], parts: int, wanted: Wanted, folder: str):
        self._reads = [partial(stores.read_range, group_url(hashes, start)) for start in starts]
        self._folder, self._parts, self._wanted = folder, parts, wanted

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, f"{unit:06d}")

    def make(self, unit: int) -> bytes:
        return _repeats(_part(self._reads, self._parts, unit), self._wanted)

    def facts(self, unit: int, content: bytes) -> JsonObject:
        return {"images": _numbers(content)[0]}


ReadRange = Callable[[int, int], bytes]
"""Returns bytes [start, stop) of a file of `_HashWorker`."""


def _part(files: Sequence[ReadRange], parts: int, part: int) -> np.ndarray:
    """Return the records of a part of the range from the files of all groups, in the order of the groups."""
    found = []
    for read in files:
        first, last = np.frombuffer(read(8 * part, 8 * (part + 2)), np.int64).tolist()
        begin = 8 * (parts + 1)
        found.append(np.frombuffer(read(begin + first * RECORD.itemsize, begin + last * RECORD.itemsize), RECORD))
    return np.concatenate(found)


def _repeats(records: np.ndarray, wanted: Wanted) -> bytes:
    """Return the number of records, of those that repeat an earlier one, and the wanted ones that occur twice."""
    first = records["first"]
    order = np.argsort(first, kind="stable") if wanted == "number" else np.lexsort((records["second"], first))
    records = records[order]
    same = records["first"][1:] == records["first"][:-1]
    if wanted != "number":
        same &= records["second"][1:] == records["second"][:-1]
    member = np.concatenate([[False], same]) | np.concatenate([same, [False]]) if len(records) else np.zeros(0, bool)
    chosen = records[member] if wanted != "number" else records[:0]
    if wanted == "first" and len(chosen):
        chosen = chosen[(chosen["first"] == chosen["first"][0]) & (chosen["second"] == chosen["second"][0])]
    return np.array([len(records), same.sum()], np.int64).tobytes() + chosen.tobytes()
