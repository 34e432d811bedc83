"""The steps whose work in the driver the benchmark of scale measures, each on synthetic artifacts."""

from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import NamedTuple

import torch

from dpt_ray.benchmark.scale_data import SyntheticSet, labelled_entries
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import ClusterConfig, DataConfig, LabelsConfig, PseudoLabelsConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms.flexmatch import FlexMatch
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, write_labelled
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.mixing import PSEUDO_IMAGES, PSEUDO_PREDICTIONS, mix
from dpt_ray.pipeline.execution.repeated_images import check_images
from dpt_ray.pipeline.execution.shard_groups import LEAST_SHARDS
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.steps.balanced_labels import BalancedLabels
from dpt_ray.pipeline.steps.compare_splits import Overlap
from dpt_ray.pipeline.steps.evaluate import Evaluation
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.validation import DataPart, ValidationChoice
from dpt_ray.report.class_content import ClassAudit
from dpt_ray.report.class_tables import describe_classes, describe_quality

LABELLED_SHARE = 0.01
HELD_OUT = 10_000
"""Images of the synthetic test set."""
BATCH = 448
"""Unlabelled images of a step of FlexMatch."""
FLEXMATCH_STEPS = 20

Work = Callable[[], object]


class Place(NamedTuple):
    """Where a measurement works: the training images, the test images, and a folder of its own."""

    train: SyntheticSet
    test: SyntheticSet
    folder: Path


class Measured(NamedTuple):
    """A measured piece of work.

    Attributes:
        prepare: makes what the work reads, which is not measured; returns the work.
        follows: what its size follows: "images", or "classes" for work that does not depend on the images.
        ray_from: number of shards from which it sends work to Ray; None if it never does.
    """

    prepare: Callable[[Place], Work]
    follows: str = "images"
    ray_from: int | None = None


class _Given(Step[ChoiceFacts]):
    """A step whose artifact is given."""

    name = "given"

    @property
    def settings(self) -> JsonObject:
        return {}

    def make(self, context: StepContext) -> ChoiceFacts:
        raise NotImplementedError


_GIVEN = _Given("given", {})


def _context(place: Place, parents: Mapping[str, Artifact]) -> StepContext:
    cluster = ClusterConfig(local_cpus=1)
    return StepContext(str(place.folder / "made"), parents, cluster, "benchmark", TOLERATE_NOTHING)


def _labelled(place: Place, per_class: int = 2) -> Artifact:
    folder = place.folder / "labelled"
    entries = labelled_entries(read_index(place.train.data().url), per_class)
    per_shard, classes = place.train.per_shard, place.train.classes
    write_labelled(
        str(folder),
        [
            LabelledImage(shard, row, f"train/{shard * per_shard + row:09d}", (shard * per_shard + row) % classes)
            for shard, rows in entries.items()
            for row in rows
        ],
    )
    return Artifact(str(folder), {"facts": {}})


def _repeated(place: Place) -> Work:
    data = place.train.data()
    index, context = read_index(data.url), _context(place, {"images": data})
    return lambda: check_images(context, index)


def _labelled_subset(place: Place) -> Work:
    step = LabelledSubset(LabelsConfig(fraction=LABELLED_SHARE), DataConfig(num_classes=place.train.classes), _GIVEN)
    context = _context(place, {"images": place.train.data()})
    return lambda: step.make(context)


def _validation_choice(place: Place) -> Work:
    step = _choice()
    context = _context(place, {"images": place.train.data()})
    return lambda: step.make(context)


def _choice() -> ValidationChoice:
    return ValidationChoice(ValidationConfig(images="training"), _GIVEN, None)


def _training_part(place: Place) -> Work:
    chosen = place.folder / "choice"
    data = place.train.data()
    choice_context = _context(place, {"images": data})
    _choice().make(StepContext(**{**vars(choice_context), "folder": str(chosen)}))
    step = DataPart("training", _GIVEN, _choice())
    context = _context(place, {"images": data, "choice": Artifact(str(chosen), {"facts": {}})})
    return lambda: step.make(context)


def _overlap(place: Place) -> Work:
    step = Overlap(DataConfig(num_classes=place.train.classes), _GIVEN, _GIVEN)
    context = _context(place, {"train_data": place.train.data(), "test_data": place.test.data()})
    return lambda: step.make(context)


def _evaluation(place: Place) -> Work:
    train, test = place.train.data(), place.test.data()
    predicted, held_out = place.train.predictions(), place.test.predictions()
    roles = dict.fromkeys(("train_data", "test_data", "labelled", "pseudo_labels", "stage1", "stage3"), _GIVEN)
    step = Evaluation(**roles, pseudo_images=_GIVEN)
    parents = {"train_data": train, "test_data": test, "labelled": _labelled(place), "pseudo_labels": predicted}
    parents |= {"stage1": held_out, "stage3": held_out, "pseudo_images": predicted}
    context = _context(place, parents)
    return lambda: step.make(context)


def _balanced(place: Place) -> Work:
    step = BalancedLabels(PseudoLabelsConfig(assignment="balanced"), _GIVEN, _GIVEN)
    parents = {"images": place.train.data(), "predictions": place.train.predictions(probabilities=True)}
    context = _context(place, parents)
    return lambda: step.make(context)


def _mixing(place: Place) -> Work:
    config = load_config(None, ["preset=digits", "stage3.mixing.only_agreeing=true"])
    data = place.train.data()
    parents = {"images": data, "labelled": _labelled(place), PSEUDO_IMAGES: data}
    parents[PSEUDO_PREDICTIONS] = place.train.predictions()
    context = _context(place, parents)
    return lambda: len(ForkingPickler.dumps(mix(context, config.stage3, config.data, read_index(data.url)).sources))


def _flexmatch(place: Place) -> Work:
    classes, images = place.train.classes, place.train.images
    algorithm = FlexMatch(FlexMatch.Settings(), Task(classes, images, FLEXMATCH_STEPS))
    random = torch.Generator().manual_seed(0)
    weak = (8 * torch.rand(BATCH, classes, generator=random)).softmax(dim=1)
    index = torch.randint(images, (BATCH,), generator=random)

    def work() -> None:
        for _ in range(FLEXMATCH_STEPS):
            algorithm.compute_targets(Views(weak, weak, index))

    return work


def _report(place: Place) -> Work:
    random = torch.Generator().manual_seed(0)
    values = torch.rand(place.train.classes, 6, generator=random).tolist()
    classes = [ClassAudit(f"class {number}", 10, 1, 10, *shares) for number, shares in enumerate(values)]
    return lambda: (describe_classes(classes), describe_quality(classes))


STEPS: dict[str, Measured] = {
    "repeated keys and pixels": Measured(_repeated, ray_from=LEAST_SHARDS + 1),
    "labelled subset (1 %)": Measured(_labelled_subset, ray_from=LEAST_SHARDS + 1),
    "validation choice (20 %)": Measured(_validation_choice, ray_from=LEAST_SHARDS + 1),
    "training part": Measured(_training_part, ray_from=LEAST_SHARDS + 1),
    "overlap of the splits": Measured(_overlap, ray_from=LEAST_SHARDS + 1),
    "evaluation": Measured(_evaluation, ray_from=LEAST_SHARDS + 1),
    "balanced labels": Measured(_balanced, ray_from=1),
    "mixing of pseudo images": Measured(_mixing, ray_from=LEAST_SHARDS + 1),
    f"{FLEXMATCH_STEPS} steps of FlexMatch": Measured(_flexmatch),
    "classes in the report": Measured(_report, "classes"),
}
"""Name -> what is measured."""
