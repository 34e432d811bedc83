"""The steps whose work in the driver the benchmark of scale measures, each on synthetic artifacts."""

import os
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dpt_ray.benchmark.scale_data import SyntheticSet, labelled_entries
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig, LabelsConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms.flexmatch import FlexMatch
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.label_counts import encode_label_counts
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.distributed.finished_units import FinishedUnits
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.messages import packed
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, shard_units
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, write_labelled
from dpt_ray.pipeline.artifacts.predictions import SIDECARS, PredictedShard, summarise_predictions
from dpt_ray.pipeline.artifacts.step_facts import ShardFile
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact
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
        draws: whether results of workers can be drawn at random (`scale_groups.py`): a step that makes a file for each
            shard needs its workers.
    """

    prepare: Callable[[Place], Work]
    follows: str = "images"
    ray_from: int | None = None
    draws: bool = True


class _Stored(Step[ChoiceFacts]):
    """A step whose artifact the benchmark stored."""

    name = "stored"

    @property
    def settings(self) -> JsonObject:
        return {}

    def make(self, context: StepContext) -> ChoiceFacts:
        raise NotImplementedError


_STORED = _Stored("stored", {})


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
    step = LabelledSubset(LabelsConfig(fraction=LABELLED_SHARE), DataConfig(num_classes=place.train.classes), _STORED)
    context = _context(place, {"images": place.train.data()})
    return lambda: step.make(context)


def _validation_choice(place: Place) -> Work:
    step = _choice()
    context = _context(place, {"images": place.train.data()})
    return lambda: step.make(context)


def _choice() -> ValidationChoice:
    return ValidationChoice(ValidationConfig(images="training"), _STORED, None)


def _training_part(place: Place) -> Work:
    chosen = place.folder / "choice"
    data = place.train.data()
    choice_context = _context(place, {"images": data})
    _choice().make(StepContext(**{**vars(choice_context), "folder": str(chosen)}))
    step = DataPart("training", _STORED, _choice())
    context = _context(place, {"images": data, "choice": Artifact(str(chosen), {"facts": {}})})
    return lambda: step.make(context)


def _overlap(place: Place) -> Work:
    step = Overlap(DataConfig(num_classes=place.train.classes), _STORED, _STORED)
    context = _context(place, {"train_data": place.train.data(), "test_data": place.test.data()})
    return lambda: step.make(context)


def _evaluation(place: Place) -> Work:
    train, test = place.train.data(), place.test.data()
    predicted, held_out = place.train.predictions(), place.test.predictions()
    roles = dict.fromkeys(("train_data", "test_data", "labelled", "pseudo_labels", "stage1", "stage3"), _STORED)
    step = Evaluation(**roles, pseudo_images=_STORED)
    parents = {"train_data": train, "test_data": test, "labelled": _labelled(place), "pseudo_labels": predicted}
    parents |= {"stage1": held_out, "stage3": held_out, "pseudo_images": predicted}
    context = _context(place, parents)
    return lambda: step.make(context)


def _balanced(place: Place) -> Work:
    step = BalancedLabels(PseudoLabelsConfig(assignment="balanced"), _STORED, _STORED)
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


def _finished_units(place: Place) -> Work:
    """An interrupted labelling, all of whose units are finished."""
    index, made = read_index(place.train.data().url), place.folder / "made"
    template = place.folder / "template"
    for number in range(len(index.shards)):
        if number % _MOST_LINKS == 0:
            template = place.folder / f"template-{number}"
            template.write_bytes(b"\0" * 1000)
        file = made / SIDECARS / sidecar_name(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(template, file)
    settings, units = {"folder": str(made / SIDECARS)}, shard_units(index)
    worker = _FinishedWorker(**settings)
    listed = FinishedUnits(str(made), "FinishedWorker", settings, [packed(unit) for unit in units])
    random = np.random.default_rng(0)
    for unit in units:
        predicted = encode_label_counts(random.integers(0, place.train.classes, place.train.per_shard))
        listed.note(unit.number, {**worker.facts(unit, b""), "predicted": predicted})
    listed.close(complete=False)

    def work() -> None:
        progress = ProgressLine("benchmark", index.num_images, "images")
        alone = Resources(1, 1.0, 0)
        files = run_units(_FinishedWorker, settings, units, resources=alone, progress=progress, folder=str(made))
        facts = summarise_predictions(map(PredictedShard.from_json, files), index.num_images, index.num_classes)
        stores.write_json(str(made / MANIFEST_FILE), {"facts": facts.to_json()})

    return work


_MOST_LINKS = 10_000
"""Links to one file; ext4 allows 65,000."""


class _FinishedWorker(UnitWorker):
    """Names the files of units, all of which are there."""

    def __init__(self, folder: str):
        self._folder = folder

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        raise NotImplementedError

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        file = ShardFile(url=self.output_url(unit), bytes=1000, sha256=unit.shard.sha256, images=unit.shard.samples)
        return {**file.to_json(), "confidence_sum": 0.0}


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
    "facts of finished units": Measured(_finished_units),
    "balanced labels": Measured(_balanced, ray_from=1, draws=False),
    "mixing of pseudo images": Measured(_mixing, ray_from=LEAST_SHARDS + 1),
    f"{FLEXMATCH_STEPS} steps of FlexMatch": Measured(_flexmatch),
    "classes in the report": Measured(_report, "classes"),
}
"""Name -> what is measured."""
