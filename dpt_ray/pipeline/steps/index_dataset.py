"""The index of a shard set."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import starmap

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.white_level import level_facts, say_levels
from dpt_ray.data.importing.classes import check_id_gaps
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.found_data import FoundData
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.label_counts import added_up
from dpt_ray.data.shards.skipped import count_images
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.stores import StoredFile
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.errors import UserError
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.pipeline.artifacts.dataset import (
    DatasetFacts,
    IndexedShard,
    PassedOver,
    image_form,
    say_passed_over,
)
from dpt_ray.pipeline.artifacts.shards import ShardsFacts, lost_classes, say_ignored, shard_urls
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.artifacts.store import Artifact, fingerprint
from dpt_ray.pipeline.execution.index_worker import KEPT_NAMES, IndexWorker, ListedShard
from dpt_ray.pipeline.execution.repeated_images import check_images
from dpt_ray.pipeline.execution.step import Step, StepContext

_NO_LABELS = "has no labels of two or more classes (.cls files)"
_LABELS, _LAYOUTS, _TRAIN, _SHARDS = "labels", "layouts", "train", "shards"


class Dataset(Step[DatasetFacts]):
    """Index a shard set: length, checksum and samples of each shard, keys, true labels, classes.

    Every image is decoded once. So unreadable images are left out or refused before any training.

    Args:
        split: whether the set contains training or test images.
        data: the section `data`: size, channels and classes of the images.
        found: the shards or images at their location.
        imported: writes the shards of images in another format; None if the shards exist already.
        train: indexes the training set; given for the test set only. It determines the number of classes, unless the
            settings or the data do, and the white level of images of more than 8 bits.
    """

    name = "dataset"
    version = 5
    facts_type = DatasetFacts

    def __init__(
        self, split: Split, data: DataConfig, found: FoundData, imported: Step | None = None, train: Step | None = None
    ):
        self._data, self._found, self.images = data, found, found.images
        parents: dict[str, Step] = {}
        if train is not None:
            parents[_TRAIN] = train
        if imported is not None:
            parents[_SHARDS] = imported
        self._listing: list[StoredFile] = found.shards.files if found.shards is not None else []
        self._beside: tuple[Ignored, ...] = found.shards.ignored if found.shards is not None else ()
        super().__init__(f"{split} data", parents)

    @property
    def settings(self) -> JsonObject:
        settings: dict[str, Json] = {
            "image_size": self._data.image_size,
            "channels": self._data.channels,
            "max_pixels": self._data.max_image_pixels,
            "num_classes": self.num_classes,
        }
        if self._found.shards is not None:
            settings["location"] = self._found.location
            settings["listing"] = fingerprint([[s["name"], s["size"], s["changed"]] for s in self._listing])
        return settings

    @property
    def num_classes(self) -> int | None:
        """Number of classes that the settings or the data name; None where the labels tell it."""
        return self._data.num_classes or self._found.num_classes

    @property
    def is_training_set(self) -> bool:
        """Whether this is the training set, which determines classes and white level of the test set."""
        return _TRAIN not in self.parents

    @property
    def imported(self) -> Step | None:
        """The step that writes the shards; None if they exist already."""
        return self.parents.get(_SHARDS)

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Files at the location that are not part of the set."""
        return self.images.ignored if self.images is not None else self._beside

    @property
    def _where(self) -> str:
        return self._found.location or (self.images.location if self.images else "data")

    def plan(self) -> str:
        return f"indexing {self._found.location or 'the shards'}"

    def make(self, context: StepContext) -> DatasetFacts:
        urls = [file["url"] for file in self._listing] or shard_urls(context.parents[_SHARDS])
        files = run_units(
            IndexWorker,
            {
                "folder": context.file(_LABELS),
                "layouts": context.file(_LAYOUTS),
                "form": image_form(self._data),
            },
            list(starmap(ListedShard, enumerate(urls))),
            resources=inference_resources(context.cluster),
            progress=context.progress(len(urls), "shards"),
            policy=context.policy,
            folder=context.folder,
        )
        train = context.parents.get(_TRAIN)
        shards, counts = _counted(files)
        levels = level_facts((shard.deep for shard in shards), read_index(train.url).white if train else None)
        imported = ShardsFacts.read(context.parents[_SHARDS]).levels if self.images else None
        known = levels or imported
        infos = _shard_infos(urls, shards, known.white if known else None)
        skipped = [entry for shard in shards for entry in shard.skipped or ()]
        context.policy.check(skipped, sum(info.samples for info in infos) + count_images(skipped))
        shards = [shard for shard in shards if shard.samples is not None]
        if gone := {label for shard in shards for label in shard.classes_out} - counts.keys():
            raise lost_classes(sorted(gone), None, self._where)
        known_by = train if self.num_classes is None else None
        num_classes = self._num_classes(counts, known_by, _largest_id(shards, infos) or self._where)
        class_counts = tuple(counts.get(label, 0) for label in range(num_classes))
        names = self.images.class_names if self.images else None
        index = DatasetIndex(tuple(infos), class_counts, context.file(_LABELS), names, context.file(_LAYOUTS))
        repeated = check_images(context, index)
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder))
        return DatasetFacts(
            images=index.num_images,
            shards=len(infos),
            bytes=sum(info.bytes for info in infos),
            images_per_class=class_counts,
            class_names=names or None,
            levels=levels,
            passed_over=_add_passed_over(shards),
            repeated_images=repeated,
            without_perceptual_hash=sum(shard.without_perceptual_hash for shard in shards),
            images_in=index.num_images + count_images(skipped),
            skipped=tuple(skipped),
        )

    def summary(self, facts: DatasetFacts) -> str:
        classes = f"of {len(facts.images_per_class)} classes" if any(facts.images_per_class) else "without a label"
        text = f"{facts.images:,} images {classes} in {facts.shards} shards"
        further = filter(None, [say_levels(facts.levels), say_passed_over(facts.passed_over)])
        return "; ".join([text + summarise_skipped(facts) + say_ignored(self._beside), *further])

    def _num_classes(self, counts: Mapping[int, int], train: Artifact | None, place_of_largest: str) -> int:
        largest, where = max(counts, default=-1), self._where
        known = read_index(train.url).num_classes if train else self.num_classes
        if known is None:
            check_id_gaps(counts, place_of_largest)
        num_classes: int = known or largest + 1
        if largest >= num_classes:
            whose = "the training data has" if train else "there are"
            raise UserError(
                f"has the class id {largest} but {whose} {num_classes} classes (ids 0 to {num_classes - 1})",
                where=place_of_largest,
                fix="set data.num_classes to the number of classes in the data",
            )
        if num_classes < 2 or (train and largest < 0):
            raise UserError(
                "has images of fewer than two classes" if self.images else _NO_LABELS,
                where=where,
                fix="set data.num_classes if the labels come from labels.file",
            )
        return num_classes


def _shard_infos(urls: list[str], shards: list[IndexedShard], white: int | None) -> list[ShardInfo]:
    """Return the index entries of the shards that can be used, with the white level of their data set."""
    return [
        ShardInfo(url, shard.shard_bytes, shard.shard_sha256, shard.samples, shard.rows_out, number, white)
        for number, (url, shard) in enumerate(zip(urls, shards, strict=True))
        if shard.samples is not None and shard.shard_bytes is not None and shard.shard_sha256 is not None
    ]


def _counted(files: Iterable[JsonObject]) -> tuple[list[IndexedShard], dict[int, int]]:
    """Return what the workers report without the images of each class in a shard, and those of all shards."""
    shards = []

    def counts() -> Iterator[str]:
        for shard in map(IndexedShard.from_json, files):
            yield shard.class_counts
            shards.append(replace(shard, class_counts=""))

    classes = added_up(counts())
    return shards, classes


def _add_passed_over(shards: list[IndexedShard]) -> PassedOver:
    """Return the number of ignored members of all shards, and name and reason of the first ones."""
    first = [entry for shard in shards for entry in shard.passed_over[1]]
    return PassedOver(sum(shard.passed_over[0] for shard in shards), tuple(first[:KEPT_NAMES]))


def _largest_id(shards: list[IndexedShard], infos: list[ShardInfo]) -> str | None:
    """Return the shard and sample with the largest class id, for messages; None without labels."""
    places = [(*shard.largest_id, info.url) for shard, info in zip(shards, infos, strict=True) if shard.largest_id]
    if not places:
        return None
    _, key, url = max(places, key=lambda place: place[0])
    return f"{url}: sample {key!r}"
