"""Synthetic data sets without pixels: an index, and the sidecars that steps read of it, at any number of images."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from dpt_ray.data.images.perceptual_hash import PERCEPTUAL_HASH, PIXEL_HASH
from dpt_ray.data.loading.source import CONFIDENCE, LABEL, TOP_CLASSES, TOP_PROBABILITIES
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.features import FEATURES, SIDECAR_FOLDER, EncodedShard, FeaturesFacts
from dpt_ray.pipeline.artifacts.predictions import (
    PROBABILITIES,
    SIDECARS,
    TOP,
    PredictionsFacts,
)
from dpt_ray.pipeline.artifacts.step_facts import ShardFile
from dpt_ray.pipeline.artifacts.store import Artifact

_SHA256 = "0" * 64
_IMAGE_BYTES = 110_000
"""Bytes of an image in a synthetic shard, as of ImageNet's photographs; no such file exists."""
_RIGHT = 0.8
"""Share of the synthetic predictions that are right."""
_TEMPLATES = 16
"""Different sidecars of probabilities; the others are links to them, for the sake of the disk."""


class SyntheticSet:
    """Images of C classes in shards of equal length; class c has the images number c, c + C, ... of the set.

    Files of a smaller set are those of a larger one with the same name, so sets of several sizes share them.

    Args:
        folder: local folder of all files.
        name: name of the set; sets of different names hold different images.
        images: their number, a multiple of `per_shard`.
        classes: number of classes.
        per_shard: images of a shard.
        made: number of shards whose sidecars are made, the first ones; None for all.
    """

    def __init__(self, folder: Path, name: str, images: int, classes: int, per_shard: int, made: int | None = None):
        self._root = folder / "artifacts"
        self._name, self.images, self.classes, self.per_shard = name, images, classes, per_shard
        self.shards = images // per_shard
        self._made = self.shards if made is None else min(made, self.shards)

    def data(self) -> Artifact:
        """Make the index, with keys, labels and hashes; return it as the artifact of a `Dataset`."""
        labels = self._folder("labels")
        for number in self._missing(labels):
            hashes = self._random(number).integers(0, 2**63, (self.per_shard, 6), np.uint64)
            columns = {LABEL: self._labels(number), PIXEL_HASH: hashes[:, :2], PERCEPTUAL_HASH: hashes[:, 2:] | 1}
            self._write(labels, number, encode_sidecar(self._keys(number), columns))
        folder = self._folder("dataset") / str(self.images)
        infos = tuple(
            ShardInfo(f"{self._root}/shards/{self._name}-{n:06d}.tar", self.per_shard * _IMAGE_BYTES, _SHA256,
                      self.per_shard, number=n)
            for n in range(self.shards)
        )  # fmt: skip
        counts = [len(range(label, self.images, self.classes)) for label in range(self.classes)]
        index = DatasetIndex(infos, tuple(counts), str(labels))
        stores.write_json(str(folder / INDEX_FILE), index.to_json(str(folder)))
        return self._artifact(folder, {})

    def predictions(self, *, probabilities: bool = False) -> Artifact:
        """Make predictions, most of them right; return them as the artifact of `Predictions`.

        Args:
            probabilities: make those of all classes, too; the keys of such sidecars repeat.
        """
        name = "probable" if probabilities else "predicted"
        folder = self._folder(name) / SIDECARS
        for number in self._missing(folder):
            if probabilities and number >= _TEMPLATES:
                (folder / sidecar_name(number)).hardlink_to(folder / sidecar_name(number % _TEMPLATES))
                continue
            random, labels = self._random(number), self._labels(number)
            wrong = random.random(self.per_shard) > _RIGHT
            seen = np.where(wrong, random.integers(0, self.classes, self.per_shard), labels)
            columns: dict[str, np.ndarray] = {LABEL: seen, CONFIDENCE: random.random(self.per_shard, np.float32)}
            if self.classes > TOP:
                columns[TOP_CLASSES] = ((seen[:, None] + np.arange(TOP)) % self.classes).astype(np.int32)
                columns[TOP_PROBABILITIES] = random.random((self.per_shard, TOP), np.float32)
            if probabilities:
                columns[PROBABILITIES] = self._probabilities(random, seen)
            self._write(folder, number, encode_sidecar(self._keys(number), columns))
        facts = PredictionsFacts(
            images_in=self.images,
            images=self.images,
            predicted_per_class=(self.images // self.classes,) * self.classes,
            mean_confidence=0.5,
            files=tuple(self._files(SIDECARS)),
        )
        return self._artifact(folder.parent, facts.to_json())

    def keys_of(self, images: Iterable[int]) -> list[str]:
        """Return the keys of images by their numbers in the set."""
        return [f"{self._name}/{image:09d}" for image in images]

    def encoded(self) -> Artifact:
        """Return the artifact of features of all shards; no such file is made."""
        files = tuple(EncodedShard(**vars(file), feature_size=8) for file in self._files(SIDECAR_FOLDER))
        facts = FeaturesFacts(images_in=self.images, images=self.images, files=files)
        return self._artifact(self._folder(FEATURES), facts.to_json())

    def _files(self, folder: str) -> Iterator[ShardFile]:
        for number in range(self.shards):
            yield ShardFile(url=f"{folder}/{number}", bytes=1, sha256=_SHA256, images=self.per_shard)

    def _folder(self, kind: str) -> Path:
        return self._root / kind / f"{self._name}-{self.classes}"

    def _artifact(self, folder: Path, facts: JsonObject) -> Artifact:
        manifest = {"step": "synthetic", "fingerprint": self._name, "settings": {}, "parents": {}, "facts": facts}
        return Artifact(str(folder), manifest)

    def _missing(self, folder: Path) -> Iterator[int]:
        folder.mkdir(parents=True, exist_ok=True)
        return (number for number in range(self._made) if not (folder / sidecar_name(number)).exists())

    def _write(self, folder: Path, number: int, content: bytes) -> None:
        partial = folder / "partial"
        partial.write_bytes(content)  # without the synchronisation of `stores`: a lost file is made again
        partial.rename(folder / sidecar_name(number))

    def _random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([number, *self._name.encode()])

    def _keys(self, number: int) -> list[str]:
        first = number * self.per_shard
        return self.keys_of(range(first, first + self.per_shard))

    def _labels(self, number: int) -> np.ndarray:
        return (np.arange(self.per_shard) + number * self.per_shard) % self.classes

    def _probabilities(self, random: np.random.Generator, seen: np.ndarray) -> np.ndarray:
        values = random.random((len(seen), self.classes), np.float32)
        values[np.arange(len(seen)), seen] += self.classes
        return (values / values.sum(axis=1, keepdims=True)).astype(np.float16)


def labelled_entries(index: DatasetIndex, per_class: int) -> Mapping[int, list[int]]:
    """Return shard -> rows of the first images of every class of a `SyntheticSet`."""
    per_shard = index.shards[0].samples
    chosen: dict[int, list[int]] = {}
    for image in range(min(index.num_images, per_class * index.num_classes)):
        chosen.setdefault(image // per_shard, []).append(image % per_shard)
    return chosen
