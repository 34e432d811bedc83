"""The list of labelled images."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import LABEL, ImageSource, SourceShard
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact

_FILE = "labelled.json"


@dataclass(frozen=True, kw_only=True)
class ChoiceFacts(Facts):
    """The facts of a choice of images: how many were chosen, and out of how many.

    Attributes:
        images: number of chosen images.
        of: number of all images.
        packed_shards: shards that hold the chosen images alone; None if they are read from the shards of all images.
        classes_in_data: how many of the chosen images have each class in the data; None if their labels are those of
            the data.
    """

    images: int
    of: int
    packed_shards: int | None = optional()
    classes_in_data: tuple[int, ...] | None = optional()


class AllImages:
    """Every image of a data set with its true label (-1: none), in its order; one shard at a time is in memory.

    For choosing labelled and validation images; nothing that trains may use it.

    Args:
        index: the data set.
        most_shards: number of shards that are read, the first ones; None for all.
    """

    def __init__(self, index: DatasetIndex, most_shards: int | None = None):
        self._index, self._most = index, most_shards

    def __iter__(self) -> Iterator[LabelledImage]:
        for position in range(len(self._index.shards))[: self._most]:
            sidecar = read_sidecar(self._index.label_sidecar(position), [LABEL])
            for row, (key, label) in enumerate(zip(sidecar[KEY], sidecar[LABEL].tolist(), strict=True)):
                yield LabelledImage(position, row, key, label)


def write_labelled(folder: str, chosen: Sequence[LabelledImage]) -> None:
    """Write the labelled images into an artifact's folder, in the order of the data set."""
    ordered = sorted(chosen, key=lambda image: (image.shard, image.row))
    # The form of `stores.write_json`, whose encoder would take 1 kB an image.
    entries = ",\n".join(
        f"  [\n    {i.shard},\n    {i.row},\n    {json.dumps(i.key, ensure_ascii=False)},\n    {i.label}\n  ]"
        for i in ordered
    )
    stores.write_bytes(stores.join(folder, _FILE), (f"[\n{entries}\n]\n" if ordered else "[]\n").encode())


def read_labelled(artifact: Artifact) -> list[LabelledImage]:
    """Return the labelled images of a `LabelledSubset`.

    Raises:
        UserError: the list is absent, or not in the form that this package writes.
    """
    entries = read_document(artifact.file(_FILE), list[tuple[int, int, str, int]], "a list of labelled images", REMOVE)
    return [LabelledImage(*entry) for entry in entries]


def labelled_rows(artifact: Artifact) -> dict[int, np.ndarray]:
    """Return position of a shard -> rows of its labelled images, int64 (M,); see `read_labelled`."""
    rows: dict[int, list[int]] = {}
    for image in read_labelled(artifact):
        rows.setdefault(image.shard, []).append(image.row)
    return {shard: np.array(found) for shard, found in rows.items()}


def labelled_source(artifact: Artifact, index: DatasetIndex, form: ImageForm) -> ImageSource:
    """Return the labelled images with their true labels as an image source.

    The images of each shard of the data set are a shard of the source, wherever they are read from. So the order of
    training does not depend on whether the artifact has packed shards.
    """
    by_shard: dict[int, list[LabelledImage]] = {}
    for image in read_labelled(artifact):
        by_shard.setdefault(image.shard, []).append(image)
    if INDEX_FILE in artifact.files:
        places = _packed_places(read_index(artifact.url), by_shard)
    else:
        places = [(index.shards[shard], tuple(i.row for i in images)) for shard, images in by_shard.items()]
    labels = (tuple(image.label for image in images) for images in by_shard.values())
    shards = (SourceShard(info, rows, own) for (info, rows), own in zip(places, labels, strict=True))
    return ImageSource(tuple(shards), form)


def _packed_places(
    packed: DatasetIndex, by_shard: Mapping[int, Sequence[LabelledImage]]
) -> list[tuple[ShardInfo, tuple[int, ...]]]:
    """Return where the labelled images of each shard lie in packed shards, which hold all of them in order."""
    places, shards, first = [], iter(packed.shards), 0
    info = next(shards)
    for images in by_shard.values():
        if first == info.samples:
            info, first = next(shards), 0
        places.append((info, tuple(range(first, first + len(images)))))
        first += len(images)
    return places
