"""Evaluation: the only step that reads the true labels of unlabelled and of test images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.core.metrics.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    mean_confidence,
)
from dpt_ray.core.metrics.classification import accuracy, class_precision, class_recall, confusion_matrix
from dpt_ray.core.metrics.frechet import frechet_distance, gaussian_moments
from dpt_ray.core.metrics.uncertainty import Interval, compare_paired, wilson_interval
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.evaluation import (
    METRICS_FILE,
    ClassMetrics,
    EvaluationFacts,
    EvaluationMetrics,
    Shares,
    known_by_all,
    known_pairs,
    read_confidence,
    read_predicted,
    read_true_labels,
    reliability_bins,
    tell_verdict,
)
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.overlap import OverlapFacts
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_class
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.result_warnings import stage3_below
from dpt_ray.pipeline.execution.step import Step, StepContext


class Evaluation(Step[EvaluationFacts]):
    """Compute all metrics of a run.

    Args:
        train_data: indexes the training images, with their true labels.
        test_data: indexes the held-out images, with their true labels.
        overlap: finds held-out images among the training images; None if they are a part of the training images.
        labelled: chooses the labelled images, which the accuracy of pseudo-labels leaves out.
        pseudo_labels: makes stage 1's predictions for the training images.
        stage1: makes stage 1's predictions for the held-out images.
        stage3: makes stage 3's predictions for the held-out images.
        pseudo_images: makes stage 1's predictions for the pseudo images, with features if there are `real_features`.
        real_features: makes stage 1's features of the training images, for the Fréchet distance.
    """

    name = "evaluation"
    version = 5
    facts_type = EvaluationFacts

    def __init__(
        self,
        *,
        train_data: Step,
        test_data: Step,
        overlap: Step | None = None,
        labelled: Step,
        pseudo_labels: Step,
        stage1: Step,
        stage3: Step,
        pseudo_images: Step,
        real_features: Step | None = None,
    ):
        parents: dict[str, Step] = {
            "train_data": train_data,
            "test_data": test_data,
            "labelled": labelled,
            "pseudo_labels": pseudo_labels,
            "stage1": stage1,
            "stage3": stage3,
            "pseudo_images": pseudo_images,
        }
        if overlap is not None:  # the first parent is made first, so before any training
            parents = {"overlap": overlap, **parents}
        if real_features is not None:
            parents["real_features"] = real_features
        super().__init__("evaluation", parents)

    @property
    def settings(self) -> JsonObject:
        return {}

    def plan(self) -> str:
        return "comparing predictions with true labels"

    def make(self, context: StepContext) -> EvaluationFacts:
        parents = context.parents
        train, test = read_index(parents["train_data"].url), read_index(parents["test_data"].url)
        _check_same_classes(train, test)
        test_keys, test_labels = read_true_labels(test)
        stage1, stage3 = (read_predicted(parents[name], test_keys) for name in ("stage1", "stage3"))
        held_out = known_by_all(test_labels, stage1, stage3)  # both classifiers are compared on the same images
        if not held_out.any():
            raise UserError("no held-out image has a true label and can be read", where="data.test")
        stage1, stage3, test_labels = stage1[held_out], stage3[held_out], test_labels[held_out]
        tests = [
            _test(test_labels, predicted, read_confidence(parents[name])[held_out], train.num_classes)
            for name, predicted in (("stage1", stage1), ("stage3", stage3))
        ]
        keys, true = read_true_labels(train)
        labelled = {image.key for image in read_labelled(parents["labelled"])}
        unlabelled = torch.tensor([key not in labelled for shard in keys for key in shard])
        confidence = read_confidence(parents["pseudo_labels"])[unlabelled]
        pseudo, true = read_predicted(parents["pseudo_labels"], keys)[unlabelled], true[unlabelled]
        bins = reliability_bins(true, pseudo, confidence)
        seen = read_predicted(parents["pseudo_images"])
        requested = torch.from_numpy(conditioning_class(np.arange(len(seen)), train.num_classes)[0])
        overlap = OverlapFacts.read(parents["overlap"]) if "overlap" in parents else None
        real = parents.get("real_features")
        facts = EvaluationFacts(
            stage1_accuracy=tests[0].accuracy,
            pseudo_label_accuracy=_optional_accuracy(*known_pairs(true, pseudo)),
            pseudo_label_mean_confidence=mean_confidence(bins) if bins else None,
            pseudo_label_calibration_error=expected_calibration_error(bins) if bins else None,
            stage3_accuracy=tests[1].accuracy,
            pseudo_image_agreement=accuracy(*known_pairs(requested, seen)),
            test_images=len(test_labels),
            duplicate_test_images=overlap.exact.test_images if overlap else None,
            near_duplicate_test_images=overlap.near.test_images if overlap else None,
            frechet_distance=_frechet(real, parents["pseudo_images"]) if real else None,
            stage1_interval=tests[0].interval,
            stage3_interval=tests[1].interval,
            stage3_change=compare_paired(test_labels, stage1, stage3),
            stage1_calibration_error=expected_calibration_error(tests[0].bins),
            stage3_calibration_error=expected_calibration_error(tests[1].bins),
        )
        confusion = confusion_matrix(*known_pairs(true, pseudo), train.num_classes)
        per_class = ClassMetrics(
            pseudo_label_precision=_known_shares(class_precision(confusion), confusion.sum(0)),
            pseudo_label_recall=_known_shares(class_recall(confusion), confusion.sum(1)),
            stage1_accuracy=tests[0].per_class,
            stage3_accuracy=tests[1].per_class,
        )
        metrics = EvaluationMetrics(
            **vars(facts),
            per_class=per_class,
            reliability=tuple(bins),
            stage1_reliability=tuple(tests[0].bins),
            stage3_reliability=tuple(tests[1].bins),
        )
        stores.write_json(context.file(METRICS_FILE), metrics.to_json())
        return facts

    def warnings(self, facts: EvaluationFacts, context: StepContext) -> list[str]:
        text = stage3_below(facts.stage1_accuracy, facts.stage3_accuracy, facts.stage3_change)
        return [text] if text else []

    def summary(self, facts: EvaluationFacts) -> str:
        return (
            f"test accuracy: stage 1 {facts.stage1_accuracy:.2%}, stage 3 {facts.stage3_accuracy:.2%}"
            f"{f', {verdict}' if (verdict := tell_verdict(facts.stage3_change)) else ''}; "
            f"{facts.test_images:,} test images"
        )


def _check_same_classes(train: DatasetIndex, test: DatasetIndex) -> None:
    if test.num_classes != train.num_classes:
        raise UserError(
            f"the test data has {test.num_classes} classes, the training data {train.num_classes}",
            where="data.test",
            fix="set data.num_classes, and use the same class ids in both",
        )


@dataclass(frozen=True)
class _Tested:
    """A classifier on the held-out images.

    Attributes:
        accuracy: of all images.
        interval: of that accuracy.
        per_class: accuracy of each class.
        bins: how its confidence compares with its accuracy.
    """

    accuracy: float
    interval: Interval
    per_class: Shares
    bins: list[ReliabilityBin]


def _test(labels: torch.Tensor, predicted: torch.Tensor, confidence: torch.Tensor, num_classes: int) -> _Tested:
    confusion = confusion_matrix(labels, predicted, num_classes)
    return _Tested(
        accuracy=accuracy(labels, predicted),
        interval=wilson_interval(int((labels == predicted).sum()), len(labels)),
        per_class=_known_shares(class_recall(confusion), confusion.sum(1)),
        bins=reliability_bins(labels, predicted, confidence),
    )


def _optional_accuracy(labels: torch.Tensor, predictions: torch.Tensor) -> float | None:
    return accuracy(labels, predictions) if len(labels) else None


def _frechet(real: Artifact, pseudo: Artifact) -> float:
    return frechet_distance(gaussian_moments(_features(real)), gaussian_moments(_features(pseudo)))


def _features(artifact: Artifact) -> Iterator[torch.Tensor]:
    for sidecar in filter(None, read_predictions(artifact, FEATURES)):
        yield torch.from_numpy(np.array(sidecar[FEATURES]))


def _known_shares(shares: torch.Tensor, wholes: torch.Tensor) -> Shares:
    """Return shares of wholes, None where the whole is 0."""
    return tuple(share if whole > 0 else None for share, whole in zip(shares.tolist(), wholes.tolist(), strict=True))
