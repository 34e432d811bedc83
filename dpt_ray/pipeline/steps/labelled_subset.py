"""The labelled subset: the only source of true labels for training."""

from collections import Counter
from collections.abc import Sequence

from dpt_ray.config.data_section import DataConfig, LabelsConfig
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.label_choice import (
    LabelledImage,
    ListedImages,
    check_enough,
    check_every_class_labelled,
    choose_listed,
    draw_per_class,
)
from dpt_ray.data.shards.label_table import TabledImage, choose_tabled, is_label_table, listed_names
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.labelled import AllImages, ChoiceFacts, write_labelled
from dpt_ray.pipeline.execution.draw_candidates import draw_candidates
from dpt_ray.pipeline.execution.listed_candidates import listed_candidates
from dpt_ray.pipeline.execution.packed_labelled import pack_labelled
from dpt_ray.pipeline.execution.shard_groups import LEAST_SHARDS
from dpt_ray.pipeline.execution.step import Step, StepContext


class LabelledSubset(Step[ChoiceFacts]):
    """Choose the labelled training images, and store their labels.

    Images that lie far apart are copied into shards of their own, which changes no result (`packed_labelled.py`).

    Args:
        labels: the section `labels`.
        data: the section `data`: the names of classes in error messages, and the size of images, which decides whether
            a copy pays.
        train_data: indexes the training images.
        listed: the lines of `labels.file`.
    """

    name = "labelled_subset"
    facts_type = ChoiceFacts

    def __init__(self, labels: LabelsConfig, data: DataConfig, train_data: Step, listed: Sequence[str] = ()):
        self._labels, self._data, self._lines = labels, data, listed
        super().__init__("labelled subset", {"images": train_data})

    @property
    def settings(self) -> JsonObject:
        if self._labels.file is not None:  # its content decides, not its location
            return {"listed": sha256("\n".join(self._lines).encode())}
        return self._labels.model_dump(mode="json", exclude_none=True)

    def plan(self) -> str:
        return "choosing the labelled images"

    def make(self, context: StepContext) -> ChoiceFacts:
        index = read_index(context.parents["images"].url)
        found = self._choose(context, index)
        chosen = [image for image, _ in found]
        write_labelled(context.folder, chosen)
        return ChoiceFacts(
            images=len(chosen),
            of=index.num_images,
            packed_shards=pack_labelled(context, index, chosen, image_form(self._data)),
            classes_in_data=_classes_in_data(found, index.num_classes),
        )

    def check_labels(self, index: DatasetIndex) -> None:
        """Check that the labelled images of a data set can be chosen, without drawing them.

        A list is not looked up in more shards than one group has: that is work for the cluster.

        Raises:
            UserError: a class has too few images, or the list does not fit the data.
        """
        if self._labels.file is not None:
            if len(index.shards) <= LEAST_SHARDS:
                self._choose_listed(index, ListedImages.all(AllImages(index)))
        else:
            check_enough(self._names(index), self._counts(index), index.class_counts)

    def _choose(self, context: StepContext, index: DatasetIndex) -> list[TabledImage]:
        if self._labels.file is not None:
            location = _training_location(self._data)
            names = listed_names(self._lines, self._labels.file)
            return self._choose_listed(index, listed_candidates(context, index, names, location))
        counts, salt = self._counts(index), ("labelled", self._labels.seed)
        check_enough(self._names(index), counts, index.class_counts)  # before all sidecars are read
        found = draw_candidates(context, index, salt, counts, index.class_counts)
        chosen = draw_per_class(found, self._names(index), counts, index.class_counts)
        check_every_class_labelled(chosen, self._names(index), "labels")
        return _as_in_data(chosen)

    def _choose_listed(self, index: DatasetIndex, images: ListedImages) -> list[TabledImage]:
        where, location = self._labels.file, _training_location(self._data)
        assert where is not None
        if is_label_table(self._lines):
            chosen = choose_tabled(images, self._lines, self._names(index), where, location)
        else:
            chosen = _as_in_data(choose_listed(images, self._lines, where, location))
        check_every_class_labelled([image for image, _ in chosen], self._names(index), where)
        return chosen

    def _names(self, index: DatasetIndex) -> Sequence[str]:
        return class_names(self._data, index.num_classes, index.class_names)

    def summary(self, facts: ChoiceFacts) -> str:
        packed = f", in {facts.packed_shards:,} shards of their own" if facts.packed_shards else ""
        return f"{facts.images:,} of {facts.of:,} images{packed}"

    def _counts(self, index: DatasetIndex) -> Sequence[int]:
        if self._labels.per_class is not None:
            return [self._labels.per_class] * index.num_classes
        assert self._labels.fraction is not None  # `LabelsConfig` has exactly one of the three
        return [max(1, round(self._labels.fraction * count)) for count in index.class_counts]


def _as_in_data(images: Sequence[LabelledImage]) -> list[TabledImage]:
    return [TabledImage(image, image.label) for image in images]


def _classes_in_data(chosen: Sequence[TabledImage], num_classes: int) -> tuple[int, ...] | None:
    """Return `ChoiceFacts.classes_in_data`."""
    if all(image.label == in_data for image, in_data in chosen):
        return None
    counts = Counter(in_data for _, in_data in chosen)
    return tuple(counts[label] for label in range(num_classes))


def _training_location(data: DataConfig) -> str | None:
    """Return the URL of the training images; None for the embedded digits."""
    if data.train is None or data.train == "digits":
        return None
    return stores.absolute_url(data.train).rstrip("/")
