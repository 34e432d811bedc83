"""The index of a set of shards: the length, checksum and number of samples of each, which reading checks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.images.perceptual_hash import PERCEPTUAL_HASH, PIXEL_HASH, ImageHashes
from dpt_ray.data.shards.integers import Integers
from dpt_ray.data.shards.row_bits import decode_rows, encode_rows
from dpt_ray.data.shards.sidecars import KEY, read_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.json_values import Json, JsonObject

INDEX_FILE = "index.json"


@dataclass(frozen=True)
class ShardInfo:
    """One shard.

    Attributes:
        url: its URL.
        bytes: its length.
        sha256: its checksum, hexadecimal.
        samples: number of usable samples, at least 1.
        skipped: numbers of the samples that are left out among those that `reliable_samples` returns, ascending: a
            tuple of a few, `Integers` of many.
        number: its position in the listing that was indexed, which names its sidecar of true labels.
        white: the white level of the data set's images of more than 8 bits, in the shards or before the import into
            shards (`white_level.py`). None if the data set has no such images.
        layouts: URL of the folder of stored layouts (`stored_layouts.py`); None if the set has none. The JSON of an
            index has it once for all shards.
    """

    url: str
    bytes: int
    sha256: str
    samples: int
    skipped: Sequence[int] = ()
    number: int = 0
    white: int | None = None
    layouts: str | None = None

    @property
    def layout_sidecar(self) -> str | None:
        """URL of the sidecar with the shard's layout; None if it has none."""
        return None if self.layouts is None else stores.join(self.layouts, sidecar_name(self.number))

    def form(self, wanted: ImageForm) -> ImageForm:
        """Return the form `wanted` with the white level of the shard's data set."""
        return replace(wanted, white=self.white)


@dataclass(frozen=True)
class DatasetIndex:
    """An indexed set of shards.

    Attributes:
        shards: the shards with usable samples, in the order of their names.
        class_counts: number of labelled images of each class, in the order of ids.
        label_folder: URL of the folder of sidecars with the columns `key` and `label` (-1: none), one for each shard.
            Those of an indexed set also have the columns of the images' hashes.
        class_names: names of the classes in the data, in the order of ids; None if the data has only ids.
        layout_folder: URL of the folder of stored layouts, one sidecar for each shard; None if there are none.
    """

    shards: tuple[ShardInfo, ...]
    class_counts: tuple[int, ...]
    label_folder: str
    class_names: tuple[str, ...] | None = None
    layout_folder: str | None = None

    @property
    def num_images(self) -> int:
        """Number of images in all shards."""
        return sum(shard.samples for shard in self.shards)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_counts)

    @property
    def white(self) -> int | None:
        """The white level of images of more than 8 bits; None if there are none."""
        return next((shard.white for shard in self.shards if shard.white is not None), None)

    def label_sidecar(self, position: int) -> str:
        """Return the URL of the sidecar with the true labels of the shard at `position`.

        Only the choice of labelled images and evaluation may read it.
        """
        return stores.join(self.label_folder, sidecar_name(self.shards[position].number))

    def keys(self, position: int) -> list[str]:
        """Read the keys of the images of the shard at `position`, in order; its labels are not read."""
        return read_sidecar(self.label_sidecar(position), [])[KEY]

    def hashes(self, position: int) -> ImageHashes:
        """Read the hashes of the images of the shard at `position`; its labels are not read."""
        columns = read_sidecar(self.label_sidecar(position), [PIXEL_HASH, PERCEPTUAL_HASH])
        return ImageHashes(columns[PIXEL_HASH], columns[PERCEPTUAL_HASH])

    def to_json(self, folder: str, *, row_bits: bool = False) -> JsonObject:
        """Return the index as JSON for the artifact in `folder`, with `row_bits` for a part of a set.

        URLs under the artifacts' common root become relative to it, so that the root can move.
        """
        prefix = _root(folder) + "/"
        shards = [asdict(replace(shard, url=shard.url.removeprefix(prefix))) for shard in self.shards]
        for shard in shards:
            del shard["layouts"]
            shard["skipped"] = _written_rows(shard["skipped"]) if row_bits else list(shard["skipped"])
        return {
            "shards": shards,
            "class_counts": list(self.class_counts),
            "label_folder": self.label_folder.removeprefix(prefix),
            "class_names": self.class_names,
            "layout_folder": self.layout_folder.removeprefix(prefix) if self.layout_folder else None,
        }


MOST_LISTED = 16
"""Most rows that an index lists one by one; more are a bit for each row."""


def _written_rows(rows: Sequence[int]) -> Json:
    if len(rows) <= MOST_LISTED:
        return list(rows)
    places = np.asarray(rows)
    chosen = np.zeros(int(places.max()) + 1, bool)
    chosen[places] = True
    return encode_rows(chosen)


def few_or_many(rows: np.ndarray) -> Sequence[int]:
    """Return rows as `ShardInfo.skipped` has them."""
    return tuple(rows.tolist()) if len(rows) <= MOST_LISTED else Integers(rows)


@dataclass(frozen=True)
class _WrittenShard:
    """`ShardInfo` as an index has it; see `_written_rows`."""

    url: str
    bytes: int
    sha256: str
    samples: int
    skipped: tuple[int, ...] | str = ()
    number: int = 0
    white: int | None = None

    def info(self, where: str) -> ShardInfo:
        rows = few_or_many(decode_rows(self.skipped, where)) if isinstance(self.skipped, str) else self.skipped
        return ShardInfo(**{**vars(self), "skipped": rows})


@dataclass(frozen=True)
class _WrittenIndex:
    """`DatasetIndex` as its file has it."""

    shards: tuple[_WrittenShard, ...]
    class_counts: tuple[int, ...]
    label_folder: str
    class_names: tuple[str, ...] | None = None
    layout_folder: str | None = None


def _root(folder: str) -> str:
    """Return the root of the artifact in `<root>/<step>/<fingerprint>`."""
    return folder.rstrip("/").rsplit("/", 2)[0]


def read_index(folder: str) -> DatasetIndex:
    """Read the index of the data set artifact in `folder`.

    Raises:
        UserError: the index is absent, or this package did not write it.
    """

    def resolve(path: str) -> str:
        return path if "://" in path or path.startswith("/") else stores.join(_root(folder), path)

    place = stores.join(folder, INDEX_FILE)
    index: _WrittenIndex = read_document(place, _WrittenIndex, "an index")
    layouts = resolve(index.layout_folder) if index.layout_folder else None
    shards = tuple(replace(s.info(place), url=resolve(s.url), layouts=layouts) for s in index.shards)
    return DatasetIndex(shards, index.class_counts, resolve(index.label_folder), index.class_names or None, layouts)
