"""Evaluation: the only step that reads the true labels of unlabelled and of test images."""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from dpt_ray.core.metrics.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    mean_confidence,
    reliability,
)
from dpt_ray.core.metrics.classification import accuracy, class_precision, class_recall, confusion_matrix
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.data import stores
from dpt_ray.data.documents import read_document
from dpt_ray.data.index import DatasetIndex, read_index
from dpt_ray.data.sidecars import KEY, read_sidecar
from dpt_ray.data.skipped import count_images, read_skipped
from dpt_ray.data.source import CONFIDENCE, LABEL
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import REMOVE, Artifact
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.features import FEATURES
from dpt_ray.pipeline.steps.labels import read_labelled
from dpt_ray.pipeline.steps.overlap import Overlap
from dpt_ray.pipeline.steps.predictions import Predictions, read_predictions

METRICS_FILE = "metrics.json"
_UNREAD = -2
"""In place of a predicted label."""


class Evaluation(Step):
    """All figures of a run.

    Args:
        train_data: gives the true labels that pseudo-labels are compared with.
        test_data: gives the true labels of the held-out images.
        overlap: which of the held-out images are training images, too; None where they were divided off from those.
        labelled: images that pseudo-label accuracy leaves out.
        pseudo_labels: stage 1's predictions for the training images.
        stage1, stage3: both classifiers' predictions for the held-out images.
        pseudo_images: stage 1's predictions for the pseudo images, with features if `real_features` are given.
        real_features: stage 1's features of the training images, for the Frechet distance.
    """

    name = "evaluation"
    version = 4

    def __init__(
        self,
        *,
        train_data: Step,
        test_data: Step,
        overlap: Overlap | None = None,
        labelled: Step,
        pseudo_labels: Predictions,
        stage1: Predictions,
        stage3: Predictions,
        pseudo_images: Predictions,
        real_features: Predictions | None = None,
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
        if overlap is not None:  # the first, so that it is made before anything trains
            parents = {"overlap": overlap, **parents}
        if real_features is not None:
            parents["real_features"] = real_features
        super().__init__("evaluation", {}, parents)

    def plan(self) -> str:
        return "comparing predictions with true labels"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        parents = workshop.parents
        train, test = read_index(parents["train_data"].url), read_index(parents["test_data"].url)
        if test.num_classes != train.num_classes:
            raise UserError(
                f"the test data has {test.num_classes} classes, the training data {train.num_classes}",
                where="data.test",
                fix="set data.num_classes, and use the same class ids in both",
            )
        test_keys, test_labels = _true_labels(test)
        stage1, stage3 = (_predicted(parents[name], test_keys) for name in ("stage1", "stage3"))
        keys, true = _true_labels(train)
        labelled = {image.key for image in read_labelled(parents["labelled"])}
        unlabelled = torch.tensor([key not in labelled for shard in keys for key in shard])
        confidence = _confidence(parents["pseudo_labels"])[unlabelled]
        pseudo, true = _predicted(parents["pseudo_labels"], keys)[unlabelled], true[unlabelled]
        bins = _reliability(true, pseudo, confidence)
        seen = _predicted(parents["pseudo_images"])
        asked = torch.arange(len(seen)) % train.num_classes
        metrics: dict[str, Any] = {
            "stage1_accuracy": accuracy(*_known(test_labels, stage1)),
            "pseudo_label_accuracy": _optional_accuracy(*_known(true, pseudo)),
            "pseudo_label_mean_confidence": mean_confidence(bins) if bins else None,
            "pseudo_label_calibration_error": expected_calibration_error(bins) if bins else None,
            "stage3_accuracy": accuracy(*_known(test_labels, stage3)),
            "pseudo_image_agreement": accuracy(*_known(asked, seen)),
            "test_images": int((test_labels >= 0).sum()),
        }
        if "overlap" in parents:
            overlap = parents["overlap"].facts
            metrics["duplicate_test_images"] = overlap["exact"]["test_images"]
            metrics["near_duplicate_test_images"] = overlap["near"]["test_images"]
        if "real_features" in parents:
            metrics["frechet_distance"] = _frechet(parents["real_features"], parents["pseudo_images"])
        confusion = confusion_matrix(*_known(true, pseudo), train.num_classes)
        tests = [confusion_matrix(*_known(test_labels, predicted), train.num_classes) for predicted in (stage1, stage3)]
        per_class = {
            "pseudo_label_precision": _known_shares(class_precision(confusion), confusion.sum(0)),
            "pseudo_label_recall": _known_shares(class_recall(confusion), confusion.sum(1)),
            "stage1_accuracy": _known_shares(class_recall(tests[0]), tests[0].sum(1)),
            "stage3_accuracy": _known_shares(class_recall(tests[1]), tests[1].sum(1)),
        }
        details = {"per_class": per_class, "reliability": [asdict(bin) for bin in bins]}
        stores.write_json(workshop.file(METRICS_FILE), {**metrics, **details})
        return metrics

    def summary(self, facts: Any) -> str:
        return (
            f"test accuracy: stage 1 {facts['stage1_accuracy']:.2%}, stage 3 {facts['stage3_accuracy']:.2%}; "
            f"{facts['test_images']:,} test images"
        )


def read_metrics(artifact: Artifact) -> dict[str, Any]:
    """Return all figures, `per_class` (None where a class has no image) and `reliability` of pseudo-labels.

    Raises:
        UserError: they are absent, or none that this package wrote.
    """
    return read_document(artifact.file(METRICS_FILE), dict[str, Any], "the figures of an evaluation", REMOVE)


def classifier_accuracy(data: Artifact, predictions: Artifact, leave_out: Collection[str] = ()) -> float:
    """Return the share of a data set's images that were given their true class.

    Args:
        data: a `Dataset`.
        predictions: `Predictions` of a classifier for it.
        leave_out: keys of images that don't count.
    """
    keys, true = _true_labels(read_index(data.url))
    counts = torch.tensor([key not in leave_out for shard in keys for key in shard])
    return accuracy(*_known(true[counts], _predicted(predictions, keys)[counts]))


def classifier_reliability(
    data: Artifact, predictions: Artifact, leave_out: Collection[str] = ()
) -> list[ReliabilityBin]:
    """Return how the confidence of predictions compares with their accuracy; see `classifier_accuracy`."""
    keys, true = _true_labels(read_index(data.url))
    counts = torch.tensor([key not in leave_out for shard in keys for key in shard])
    return _reliability(true[counts], _predicted(predictions, keys)[counts], _confidence(predictions)[counts])


def _true_labels(index: DatasetIndex) -> tuple[list[list[str]], torch.Tensor]:
    """Return a set's keys, shard by shard, and its true labels, in its order."""
    sidecars = [read_sidecar(index.label_sidecar(number), [LABEL]) for number in range(len(index.shards))]
    labels = np.concatenate([sidecar[LABEL] for sidecar in sidecars])
    return [sidecar[KEY] for sidecar in sidecars], torch.from_numpy(labels)


def _predicted(artifact: Artifact, keys: list[list[str]] | None = None) -> torch.Tensor:
    """Return predicted labels, of these very images where they are given; `_UNREAD` where a shard could not be read."""
    labels = []
    for number, sidecar in enumerate(read_predictions(artifact, LABEL)):
        if sidecar is None:
            labels.append(np.full(count_images(read_skipped(artifact.facts["files"][number])), _UNREAD))
        elif keys is not None and sidecar[KEY] != keys[number]:
            raise UserError("does not list the images that it is compared with", where=artifact.url, fix="remove it")
        else:
            labels.append(sidecar[LABEL])
    return torch.from_numpy(np.concatenate(labels))


def _confidence(artifact: Artifact) -> torch.Tensor:
    """Return the confidence of predicted labels; nan where a shard could not be read."""
    values = []
    for number, sidecar in enumerate(read_predictions(artifact, CONFIDENCE)):
        if sidecar is None:
            values.append(np.full(count_images(read_skipped(artifact.facts["files"][number])), np.nan, np.float32))
        else:
            values.append(sidecar[CONFIDENCE])
    return torch.from_numpy(np.concatenate(values))


def _reliability(true: torch.Tensor, predicted: torch.Tensor, confidence: torch.Tensor) -> list[ReliabilityBin]:
    known = (true >= 0) & (predicted != _UNREAD)
    return reliability(confidence[known], true[known] == predicted[known]) if known.any() else []


def _known(labels: torch.Tensor, predictions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out images without a true label or without a prediction."""
    known = (labels >= 0) & (predictions != _UNREAD)
    return labels[known], predictions[known]


def _optional_accuracy(labels: torch.Tensor, predictions: torch.Tensor) -> float | None:
    return accuracy(labels, predictions) if len(labels) else None


def _frechet(real: Artifact, pseudo: Artifact) -> float:
    return frechet_distance(_moments(read_predictions(real, FEATURES)), _moments(read_predictions(pseudo, FEATURES)))


def _moments(sidecars: Iterable[dict[str, Any] | None]) -> GaussianMoments:
    moments = None
    for sidecar in filter(None, sidecars):
        features = torch.from_numpy(np.array(sidecar[FEATURES]))
        moments = moments or GaussianMoments(features.shape[1])
        moments.update(features)
    assert moments is not None  # every set has a shard
    return moments


def _known_shares(shares: torch.Tensor, wholes: torch.Tensor) -> list[float | None]:
    """Return shares, None where there is nothing to have a share of."""
    return [share if whole > 0 else None for share, whole in zip(shares.tolist(), wholes.tolist(), strict=True)]
