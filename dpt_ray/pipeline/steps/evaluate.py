"""Evaluation: the only step that reads the true labels of unlabelled and of test images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.core.metrics.calibration import (
    expected_calibration_error,
    mean_confidence,
)
from dpt_ray.core.metrics.classification import (
    accuracy,
    class_precision,
    class_recall,
    confusion_matrix,
)
from dpt_ray.core.metrics.frechet import frechet_distance, gaussian_moments
from dpt_ray.core.metrics.uncertainty import PairedChange, compare_paired
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.class_metrics import ClassMetrics, Confusions
from dpt_ray.pipeline.artifacts.evaluation import (
    METRICS_FILE,
    EvaluationFacts,
    EvaluationMetrics,
    known_by_all,
    known_pairs,
    read_confidence,
    read_predicted,
    read_true_labels,
    reliability_bins,
    tell_verdict,
)
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.generation import GenerationFacts
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.overlap import OverlapFacts
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_class
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.class_quality import class_distances
from dpt_ray.pipeline.execution.judged_classifier import (
    JudgedClassifier,
    accuracy_interval,
    class_shares,
    judge_classifier,
    known_shares,
)
from dpt_ray.pipeline.execution.result_warnings import stage3_below
from dpt_ray.pipeline.execution.step import Step, StepContext

_SCORED = "trained_on_pseudo"
"""Role of the predictions by a classifier that learnt from pseudo images alone."""


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
        generation: measures pseudo images in the features of a network.
        trained_on_pseudo: predicts the held-out images by a classifier that learnt from pseudo images alone.
    """

    name = "evaluation"
    version = 6
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
        generation: Step | None = None,
        trained_on_pseudo: Step | None = None,
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
        if generation is not None:
            parents["generation"] = generation
        if trained_on_pseudo is not None:
            parents[_SCORED] = trained_on_pseudo
        super().__init__("evaluation", parents)

    @property
    def settings(self) -> JsonObject:
        return {}

    def plan(self) -> str:
        return "comparing predictions with true labels"

    def make(self, context: StepContext) -> EvaluationFacts:
        parents = context.parents
        seen = _read(context)
        bins = reliability_bins(seen.unlabelled, seen.pseudo_labels, seen.confidence)
        labelled = known_pairs(seen.unlabelled, seen.pseudo_labels)
        agreeing = known_pairs(seen.requested, seen.pseudo_images)
        overlap = OverlapFacts.read(parents["overlap"]) if "overlap" in parents else None
        real = parents.get("real_features")
        stage1, stage3 = seen.judged
        facts = EvaluationFacts(
            stage1_accuracy=stage1.accuracy,
            pseudo_label_accuracy=_optional_accuracy(*labelled),
            pseudo_label_mean_confidence=mean_confidence(bins) if bins else None,
            pseudo_label_calibration_error=expected_calibration_error(bins) if bins else None,
            stage3_accuracy=stage3.accuracy,
            pseudo_image_agreement=accuracy(*agreeing),
            test_images=seen.change.images,
            duplicate_test_images=overlap.exact.test_images if overlap else None,
            near_duplicate_test_images=overlap.near.test_images if overlap else None,
            frechet_distance=_frechet(real, parents["pseudo_images"]) if real else None,
            stage1_interval=stage1.interval,
            stage3_interval=stage3.interval,
            stage3_change=seen.change,
            stage1_calibration_error=expected_calibration_error(stage1.bins),
            stage3_calibration_error=expected_calibration_error(stage3.bins),
            pseudo_label_interval=accuracy_interval(*labelled),
            pseudo_image_agreement_interval=accuracy_interval(*agreeing),
            stage1_top5_accuracy=stage1.top5,
            stage1_top5_interval=stage1.top5_interval,
            stage3_top5_accuracy=stage3.top5,
            stage3_top5_interval=stage3.top5_interval,
            generation=GenerationFacts.read(parents["generation"]) if "generation" in parents else None,
            classification_accuracy_score=_optional_accuracy(*seen.scored) if seen.scored else None,
            classification_accuracy_score_interval=accuracy_interval(*seen.scored) if seen.scored else None,
        )
        metrics = EvaluationMetrics(
            **vars(facts),
            per_class=_class_metrics(seen, context),
            reliability=tuple(bins),
            stage1_reliability=tuple(stage1.bins),
            stage3_reliability=tuple(stage3.bins),
            confusion=Confusions(stage1=stage1.confusion, stage3=stage3.confusion),
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
class _Seen:
    """True and predicted classes of all images.

    Attributes:
        num_classes: number of classes.
        judged: stage 1 and stage 3 on the held-out images that both could read.
        change: between them.
        training: true classes of all training images, in their order.
        unlabelled: those of the images without a given label.
        pseudo_labels: pseudo-labels of the same images.
        confidence: of these pseudo-labels.
        requested: class that each pseudo image was sampled for.
        pseudo_images: class that stage 1 sees in each.
        scored: true classes of held-out images, and those that a classifier trained on pseudo images alone sees; None
            if there is none.
    """

    num_classes: int
    judged: tuple[JudgedClassifier, JudgedClassifier]
    change: PairedChange
    training: torch.Tensor
    unlabelled: torch.Tensor
    pseudo_labels: torch.Tensor
    confidence: torch.Tensor
    requested: torch.Tensor
    pseudo_images: torch.Tensor
    scored: tuple[torch.Tensor, torch.Tensor] | None


def _read(context: StepContext) -> _Seen:
    parents = context.parents
    train, test = read_index(parents["train_data"].url), read_index(parents["test_data"].url)
    _check_same_classes(train, test)
    test_keys, test_labels = read_true_labels(test)
    stage1, stage3 = (read_predicted(parents[name], test_keys) for name in ("stage1", "stage3"))
    held_out = known_by_all(test_labels, stage1, stage3)  # both classifiers are compared on the same images
    if not held_out.any():
        raise UserError("no held-out image has a true label and can be read", where="data.test")
    stage1, stage3, test_labels = stage1[held_out], stage3[held_out], test_labels[held_out]
    scored = None
    if _SCORED in parents:
        scored = known_pairs(test_labels, read_predicted(parents[_SCORED], test_keys)[held_out])
    keys, training = read_true_labels(train)
    labelled = {image.key for image in read_labelled(parents["labelled"])}
    unlabelled = torch.tensor([key not in labelled for shard in keys for key in shard])
    pseudo_images = read_predicted(parents["pseudo_images"])
    requested = conditioning_class(np.arange(len(pseudo_images)), train.num_classes)[0]
    return _Seen(
        num_classes=train.num_classes,
        judged=(
            judge_classifier(test_labels, stage1, parents["stage1"], held_out, train.num_classes),
            judge_classifier(test_labels, stage3, parents["stage3"], held_out, train.num_classes),
        ),
        change=compare_paired(test_labels, stage1, stage3),
        training=training,
        unlabelled=training[unlabelled],
        pseudo_labels=read_predicted(parents["pseudo_labels"], keys)[unlabelled],
        confidence=read_confidence(parents["pseudo_labels"])[unlabelled],
        requested=torch.from_numpy(requested),
        pseudo_images=pseudo_images,
        scored=scored,
    )


def _class_metrics(seen: _Seen, context: StepContext) -> ClassMetrics:
    confusion = confusion_matrix(*known_pairs(seen.unlabelled, seen.pseudo_labels), seen.num_classes)
    real, pseudo = context.parents.get("real_features"), context.parents["pseudo_images"]
    return ClassMetrics(
        pseudo_label_precision=known_shares(class_precision(confusion), confusion.sum(0)),
        pseudo_label_recall=known_shares(class_recall(confusion), confusion.sum(1)),
        stage1_accuracy=seen.judged[0].per_class,
        stage3_accuracy=seen.judged[1].per_class,
        pseudo_image_agreement=class_shares(*known_pairs(seen.requested, seen.pseudo_images), seen.num_classes),
        pseudo_image_distance=()
        if real is None
        else class_distances(real, seen.training, pseudo, seen.requested, seen.num_classes),
    )


def _optional_accuracy(labels: torch.Tensor, predictions: torch.Tensor) -> float | None:
    return accuracy(labels, predictions) if len(labels) else None


def _frechet(real: Artifact, pseudo: Artifact) -> float:
    return frechet_distance(gaussian_moments(_features(real)), gaussian_moments(_features(pseudo)))


def _features(artifact: Artifact) -> Iterator[torch.Tensor]:
    for sidecar in filter(None, read_predictions(artifact, FEATURES)):
        yield torch.from_numpy(np.array(sidecar[FEATURES]))
