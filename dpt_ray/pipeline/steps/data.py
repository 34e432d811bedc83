"""Shards from embedded data, and the index of a shard set."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from dpt_ray.config.schema import DataConfig
from dpt_ray.data import stores
from dpt_ray.data.embedded import Split, digit_numbers, digit_samples
from dpt_ray.data.index import INDEX_FILE, DatasetIndex, ShardInfo, list_shards
from dpt_ray.data.shards import build_shard, fetch_shard, iter_samples, sha256
from dpt_ray.data.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.source import LABEL, decode_samples
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, run_units
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import fingerprint
from dpt_ray.pipeline.graph import Step, Workshop

NO_LABEL = -1
_SHARDS, _LABELS = "shards", "labels"


class EmbeddedShards(Step):
    """The embedded digits as WebDataset shards."""

    name = "shards"

    def __init__(self, split: Split, data: DataConfig):
        settings = {"source": "digits", "split": split, "images_per_shard": data.images_per_shard}
        super().__init__(f"{split} shards", settings, {})

    def plan(self) -> str:
        return f"writing the embedded digits, {self.settings['split']} split, as shards"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        split, size = self.settings["split"], self.settings["images_per_shard"]
        total = len(digit_numbers(split))
        facts = run_units(
            _DigitsWorker,
            {"split": split, "folder": workshop.file(_SHARDS)},
            [(number, start, min(start + size, total)) for number, start in enumerate(range(0, total, size))],
            resources=inference_resources(workshop.cluster),
            progress=workshop.progress(total),
        )
        return {"images": total, "files": facts}

    def summary(self, facts: Any) -> str:
        return f"{facts['images']:,} images in {len(facts['files'])} shards"


class _DigitsWorker(UnitWorker):
    def __init__(self, split: Split, folder: str):
        self._split, self._folder = split, folder

    def output_url(self, unit: Any) -> str:
        return stores.join(self._folder, f"{unit[0]:05d}.tar")

    def make(self, unit: Any) -> bytes:
        return build_shard(digit_samples(self._split, *unit[1:]))

    def facts(self, unit: Any, content: bytes) -> dict[str, Any]:
        return {"images": unit[2] - unit[1]}


class Dataset(Step):
    """The index of a shard set: each shard's length, checksum and samples, keys, true labels, classes.

    Every image is decoded once, so that an unreadable one is known before anything trains.

    Args:
        split: what the set is for.
        data: gives the location and the form of images.
    """

    name = "dataset"

    def __init__(self, split: Split, data: DataConfig):
        location = data.train if split == "train" else data.test
        settings: dict[str, Any] = {
            "image_size": data.image_size,
            "channels": data.channels,
            "num_classes": data.num_classes or (len(data.class_names) if data.class_names else None),
        }
        parents: dict[str, Step] = {}
        if data.train == "digits":
            parents["shards"] = EmbeddedShards(split, data)
            self._listing: list[dict[str, Any]] | None = None
        else:
            assert location is not None  # the schema asks for data.test beside data.train
            location = stores.absolute_url(location)
            self._listing = list_shards(location)
            settings["location"] = location
            settings["listing"] = fingerprint([[s["name"], s["size"], s["changed"]] for s in self._listing])
        super().__init__(f"{split} data", settings, parents)

    def plan(self) -> str:
        return f"indexing {self.settings.get('location', 'the shards')}"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        shards = self._listing or list_shards(workshop.parents["shards"].file(_SHARDS))
        facts = run_units(
            _IndexWorker,
            {
                "urls": [shard["url"] for shard in shards],
                "folder": workshop.file(_LABELS),
                "image_size": self.settings["image_size"],
                "channels": self.settings["channels"],
            },
            list(range(len(shards))),
            resources=inference_resources(workshop.cluster),
            progress=workshop.progress(len(shards), "shards"),
        )
        infos = [
            ShardInfo(shard["url"], fact["shard_bytes"], fact["shard_sha256"], fact["samples"])
            for shard, fact in zip(shards, facts, strict=True)
        ]
        counts = _count_classes(facts)
        num_classes = self._num_classes(counts)
        _refuse_duplicate_keys([fact["url"] for fact in facts], [info.url for info in infos])
        class_counts = tuple(counts.get(label, 0) for label in range(num_classes))
        index = DatasetIndex(tuple(infos), class_counts, workshop.file(_LABELS))
        stores.write_json(workshop.file(INDEX_FILE), index.to_json(workshop.folder))
        return {
            "images": index.num_images,
            "shards": len(infos),
            "bytes": sum(info.bytes for info in infos),
            "images_per_class": list(class_counts),
        }

    def summary(self, facts: Any) -> str:
        return f"{facts['images']:,} images of {len(facts['images_per_class'])} classes in {facts['shards']} shards"

    def _num_classes(self, counts: Counter[int]) -> int:
        largest = max(counts, default=-1)
        num_classes: int = self.settings["num_classes"] or largest + 1
        if largest >= num_classes:
            raise UserError(
                f"has the class id {largest} but there are {num_classes} classes (ids 0 to {num_classes - 1})",
                where=self.settings.get("location", "data"),
                fix="set data.num_classes to the number of classes in the data",
            )
        if num_classes < 2:
            raise UserError(
                "has no labels of two or more classes (.cls files)",
                where=self.settings.get("location", "data"),
                fix="set data.num_classes if the labels come from labels.file",
            )
        return num_classes


class _IndexWorker(UnitWorker):
    """Checks one shard and writes the sidecar with its keys and true labels."""

    def __init__(self, urls: list[str], folder: str, image_size: int, channels: int):
        self._urls, self._folder = urls, folder
        self._form = {"image_size": image_size, "channels": channels}

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, sidecar_name(unit))

    def make(self, unit: int) -> bytes:
        url = self._urls[unit]
        data = fetch_shard(url)
        samples = list(iter_samples(data, url))
        if not samples:
            raise UserError("is an empty shard", where=url, fix="remove it or write it again")
        decode_samples(samples, where=url, **self._form)
        labels = [sample.label(url) for sample in samples]
        return encode_sidecar(
            [sample.key for sample in samples],
            {LABEL: np.array([NO_LABEL if label is None else label for label in labels], np.int64)},
            facts={
                "shard_bytes": len(data),
                "shard_sha256": sha256(data),
                "samples": len(samples),
                "class_counts": {str(k): v for k, v in Counter(labels).items() if k is not None},
            },
        )

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        return {"images": 1, **sidecar_facts(content)}


def _count_classes(facts: list[dict[str, Any]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for fact in facts:
        counts.update({int(label): count for label, count in fact["class_counts"].items()})
    return counts


def _refuse_duplicate_keys(sidecars: list[str], shards: list[str]) -> None:
    """Refuse a key that two shards have; only a hash of each key is held."""
    hashes = [pd.util.hash_array(np.array(read_sidecar(url, [])[KEY], dtype=object)) for url in sidecars]
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


def class_names(data: DataConfig, num_classes: int) -> tuple[str, ...]:
    """Return what to call each class: the names that the settings give, or the class ids."""
    return data.class_names or tuple(map(str, range(num_classes)))
