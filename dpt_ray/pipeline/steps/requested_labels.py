"""The requested classes of all pseudo images, as labels: for a classifier that learns from pseudo images alone."""

from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, write_labelled
from dpt_ray.pipeline.artifacts.pseudo_images import requested_labels
from dpt_ray.pipeline.execution.step import Step, StepContext


class RequestedLabels(Step[ChoiceFacts]):
    """List every pseudo image with the class that it was sampled for.

    Args:
        pseudo_images: samples them.
    """

    name = "requested_labels"
    facts_type = ChoiceFacts

    def __init__(self, pseudo_images: Step):
        super().__init__("requested classes", {"images": pseudo_images})

    @property
    def settings(self) -> JsonObject:
        return {}

    def plan(self) -> str:
        return "listing the requested class of every pseudo image"

    def make(self, context: StepContext) -> ChoiceFacts:
        index = read_index(context.parents["images"].url)
        chosen = [
            LabelledImage(shard, row, f"{shard}/{row}", label)
            for shard, labels in enumerate(requested_labels(index))
            for row, label in enumerate(labels.tolist())
        ]
        write_labelled(context.folder, chosen)
        return ChoiceFacts(images=len(chosen), of=index.num_images)

    def summary(self, facts: ChoiceFacts) -> str:
        return f"{facts.images:,} pseudo images"
