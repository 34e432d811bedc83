"""The list of labelled images."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import LABEL, ImageSource, SourceShard
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact

_FILE = "labelled.json"


@dataclass(frozen=True, kw_only=True)
class ChoiceFacts(Facts):
    """The facts of a choice of images: how many were chosen, and out of how many."""

    images: int
    of: int


class AllImages:
    """Every image of a data set with its true label (-1: none), in its order; one shard at a time is in memory.

    For choosing labelled and validation images; nothing that trains may use it.

    Args:
        index: the data set.
    """

    def __init__(self, index: DatasetIndex):
        self._index = index

    def __iter__(self) -> Iterator[LabelledImage]:
        for position in range(len(self._index.shards)):
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
    """Return the labelled images with their true labels as an image source."""
    by_shard: dict[int, list[LabelledImage]] = {}
    for image in read_labelled(artifact):
        by_shard.setdefault(image.shard, []).append(image)
    shards = (
        SourceShard(index.shards[shard], tuple(i.row for i in images), tuple(i.label for i in images))
        for shard, images in by_shard.items()
    )
    return ImageSource(tuple(shards), form)
