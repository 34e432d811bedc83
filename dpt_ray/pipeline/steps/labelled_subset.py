"""The labelled subset: the only place where training's true labels come from."""

from collections.abc import Sequence

from dpt_ray.config.schema import DataConfig, LabelsConfig
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.label_choice import check_every_class_labelled, choose_listed, draw_per_class
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, all_images, write_labelled
from dpt_ray.pipeline.execution.step import Step, StepContext


class LabelledSubset(Step[ChoiceFacts]):
    """Which training images are labelled, and their labels.

    Args:
        labels: how many, or which.
        data: names the classes.
        train_data: the images to choose from.
        listed: the lines of `labels.file`.
    """

    name = "labelled_subset"
    facts_type = ChoiceFacts

    def __init__(self, labels: LabelsConfig, data: DataConfig, train_data: Step, listed: Sequence[str] = ()):
        self._data, self._lines = data, listed
        settings = labels.model_dump(mode="json", exclude_none=True)
        if labels.file is not None:  # the content decides, not where it lies
            self._where = labels.file
            settings = {"listed": sha256("\n".join(self._lines).encode())}
        super().__init__("labelled subset", settings, {"images": train_data})

    def plan(self) -> str:
        return "choosing the labelled images"

    def make(self, context: StepContext) -> ChoiceFacts:
        index = read_index(context.parents["images"].url)
        images, names = list(all_images(index)), class_names(self._data, index.num_classes, index.class_names)
        if "listed" in self.settings:
            where = self._where
            chosen = choose_listed(images, self._lines, where, _training_location(self._data))
        else:
            where = "labels"
            chosen = draw_per_class(images, names, self._counts(index), self.settings["seed"])
        check_every_class_labelled(chosen, names, where)
        write_labelled(context.folder, chosen)
        return ChoiceFacts(images=len(chosen), of=index.num_images)

    def summary(self, facts: ChoiceFacts) -> str:
        return f"{facts.images:,} of {facts.of:,} images"

    def _counts(self, index: DatasetIndex) -> Sequence[int]:
        if "per_class" in self.settings:
            return [self.settings["per_class"]] * index.num_classes
        return [max(1, round(self.settings["fraction"] * count)) for count in index.class_counts]


def _training_location(data: DataConfig) -> str | None:
    """Return the URL of the training images; None for the embedded ones."""
    if data.train is None or data.train == "digits":
        return None
    return stores.absolute_url(data.train).rstrip("/")
