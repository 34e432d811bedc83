"""The labelled subset: the only source of true labels for training."""

from collections.abc import Sequence

from dpt_ray.config.schema import DataConfig, LabelsConfig
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.label_choice import (
    LabelledImage,
    check_every_class_labelled,
    choose_listed,
    draw_per_class,
)
from dpt_ray.data.shards.label_table import choose_tabled, is_label_table
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, all_images, write_labelled
from dpt_ray.pipeline.execution.step import Step, StepContext


class LabelledSubset(Step[ChoiceFacts]):
    """Choose the labelled training images, and store their labels.

    Args:
        labels: the section `labels`.
        data: the section `data`, for the names of classes in error messages.
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
        chosen = self.choose(index)
        write_labelled(context.folder, chosen)
        return ChoiceFacts(images=len(chosen), of=index.num_images)

    def choose(self, index: DatasetIndex) -> list[LabelledImage]:
        """Return the labelled images of a data set.

        Raises:
            UserError: a class has too few images, or the list does not fit the data.
        """
        images, names = list(all_images(index)), class_names(self._data, index.num_classes, index.class_names)
        if self._labels.file is not None:
            where, location = self._labels.file, _training_location(self._data)
            if is_label_table(self._lines):
                chosen = choose_tabled(images, self._lines, names, where, location)
            else:
                chosen = choose_listed(images, self._lines, where, location)
        else:
            where = "labels"
            chosen = draw_per_class(images, names, self._counts(index), self._labels.seed)
        check_every_class_labelled(chosen, names, where)
        return chosen

    def summary(self, facts: ChoiceFacts) -> str:
        return f"{facts.images:,} of {facts.of:,} images"

    def _counts(self, index: DatasetIndex) -> Sequence[int]:
        if self._labels.per_class is not None:
            return [self._labels.per_class] * index.num_classes
        assert self._labels.fraction is not None  # `LabelsConfig` has exactly one of the three
        return [max(1, round(self._labels.fraction * count)) for count in index.class_counts]


def _training_location(data: DataConfig) -> str | None:
    """Return the URL of the training images; None for the embedded digits."""
    if data.train is None or data.train == "digits":
        return None
    return stores.absolute_url(data.train).rstrip("/")
