"""The labelled subset: the only place where training's true labels come from."""

from collections.abc import Iterator, Sequence
from typing import Any

from dpt_ray.config.schema import DataConfig, LabelsConfig
from dpt_ray.data import stores
from dpt_ray.data.documents import read_document
from dpt_ray.data.images import ImageForm
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.index import DatasetIndex, read_index
from dpt_ray.data.labels import LabelledImage, check_every_class_labelled, choose_listed, draw_per_class
from dpt_ray.data.shards import sha256
from dpt_ray.data.sidecars import KEY, read_sidecar
from dpt_ray.data.source import LABEL, ImageSource, SourceShard
from dpt_ray.pipeline.artifacts import REMOVE, Artifact
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.data import class_names

_FILE = "labelled.json"


class LabelledSubset(Step):
    """Which training images are labelled, and their labels."""

    name = "labelled_subset"

    def __init__(self, labels: LabelsConfig, data: DataConfig, train_data: Step):
        self._data = data
        settings = labels.model_dump(mode="json", exclude_none=True)
        if labels.file is not None:  # the content decides, not where it lies
            lines = read_lines(stores.absolute_url(labels.file), "list of images")
            self._lines = [line.rstrip("\r\n") for line in lines]
            self._where = labels.file
            settings = {"listed": sha256("\n".join(self._lines).encode())}
        super().__init__("labelled subset", settings, {"images": train_data})

    def plan(self) -> str:
        return "choosing the labelled images"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        index = read_index(workshop.parents["images"].url)
        images, names = list(all_images(index)), class_names(self._data, index.num_classes, index.class_names)
        if "listed" in self.settings:
            where = self._where
            chosen = choose_listed(images, self._lines, where, _training_location(self._data))
        else:
            where = "labels"
            chosen = draw_per_class(images, names, self._counts(index), self.settings["seed"])
        check_every_class_labelled(chosen, names, where)
        write_labelled(workshop, chosen)
        return {"images": len(chosen), "of": index.num_images}

    def summary(self, facts: Any) -> str:
        return f"{facts['images']:,} of {facts['of']:,} images"

    def _counts(self, index: DatasetIndex) -> Sequence[int]:
        if "per_class" in self.settings:
            return [self.settings["per_class"]] * index.num_classes
        return [max(1, round(self.settings["fraction"] * count)) for count in index.class_counts]


def _training_location(data: DataConfig) -> str | None:
    """Return the URL of the training images; None for the embedded ones."""
    if data.train is None or data.train == "digits":
        return None
    return stores.absolute_url(data.train).rstrip("/")


def all_images(index: DatasetIndex) -> Iterator[LabelledImage]:
    """Yield every image of a data set with its true label (-1: none), in its order.

    For choosing labelled and validation images; nothing that trains may call it.
    """
    for position in range(len(index.shards)):
        sidecar = read_sidecar(index.label_sidecar(position), [LABEL])
        for row, (key, label) in enumerate(zip(sidecar[KEY], sidecar[LABEL].tolist(), strict=True)):
            yield LabelledImage(position, row, key, label)


def write_labelled(workshop: Workshop, chosen: Sequence[LabelledImage]) -> None:
    """Write the labelled images of an artifact, in the order of the data set."""
    ordered = sorted(chosen, key=lambda image: (image.shard, image.row))
    stores.write_json(workshop.file(_FILE), [[i.shard, i.row, i.key, i.label] for i in ordered])


def read_labelled(artifact: Artifact) -> list[LabelledImage]:
    """Return the labelled images of a `LabelledSubset`.

    Raises:
        UserError: the list is absent, or none that this package wrote.
    """
    entries = read_document(artifact.file(_FILE), list[tuple[int, int, str, int]], "a list of labelled images", REMOVE)
    return [LabelledImage(*entry) for entry in entries]


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
