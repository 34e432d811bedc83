"""Metrics of a finished run, and the accuracy of a classifier from its predictions."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.core.metrics.calibration import ReliabilityBin, reliability
from dpt_ray.core.metrics.classification import accuracy
from dpt_ray.core.metrics.uncertainty import Interval, PairedChange, compare_paired
from dpt_ray.data.loading.source import CONFIDENCE, LABEL
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import optional
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.class_metrics import ClassMetrics, Confusions
from dpt_ray.pipeline.artifacts.generation import GenerationFacts, generation_metrics
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts, read_predictions
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact
from dpt_ray.report.content import Metric

METRICS_FILE = "metrics.json"
_UNREAD = -2
"""Stands for the predicted label of an image that could not be read."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFacts(Facts):
    """The metrics of a run; `described_metrics` gives their meaning. Accuracies are in [0, 1], None if unknown.

    Attributes:
        test_images: held-out images with a true label that both classifiers could read.
        stage1_interval: of stage 1's accuracy. It, the next two and the calibration errors are None if an older version
            wrote the facts.
        stage3_interval: of stage 3's accuracy.
        stage3_change: stage 3 compared with stage 1 on the same images.
        stage1_calibration_error: on held-out images.
        stage3_calibration_error: on held-out images.
        duplicate_test_images: None if the held-out images are a part of the training images; so is the next one.
        frechet_distance: None without `evaluation.frechet`.
        pseudo_label_interval: of the accuracy of pseudo-labels. It and the next one are None if an older version wrote
            the facts.
        pseudo_image_agreement_interval: of the pseudo images' agreement.
        stage1_top5_accuracy: share of held-out images whose class is among stage 1's five most probable ones. It, its
            interval and those of stage 3 are None for at most five classes.
        generation: pseudo images in the features of a network; None without `evaluation.generation`.
        classification_accuracy_score: accuracy on held-out images of a classifier that learnt from pseudo images alone.
            It and its interval are None without `evaluation.classification_score`.
    """

    stage1_accuracy: float
    pseudo_label_accuracy: float | None = None
    pseudo_label_mean_confidence: float | None = None
    pseudo_label_calibration_error: float | None = None
    stage3_accuracy: float
    pseudo_image_agreement: float
    test_images: int
    duplicate_test_images: int | None = optional()
    near_duplicate_test_images: int | None = optional()
    frechet_distance: float | None = optional()
    stage1_interval: Interval | None = optional()
    stage3_interval: Interval | None = optional()
    stage3_change: PairedChange | None = optional()
    stage1_calibration_error: float | None = optional()
    stage3_calibration_error: float | None = optional()
    pseudo_label_interval: Interval | None = optional()
    pseudo_image_agreement_interval: Interval | None = optional()
    stage1_top5_accuracy: float | None = optional()
    stage1_top5_interval: Interval | None = optional()
    stage3_top5_accuracy: float | None = optional()
    stage3_top5_interval: Interval | None = optional()
    generation: GenerationFacts | None = optional()
    classification_accuracy_score: float | None = optional()
    classification_accuracy_score_interval: Interval | None = optional()


@dataclass(frozen=True, kw_only=True)
class EvaluationMetrics(EvaluationFacts):
    """The content of `METRICS_FILE`: the facts, the metrics of each class and the reliability of confidences.

    Attributes:
        reliability: of pseudo-labels on unlabelled images.
        stage1_reliability: of stage 1 on held-out images.
        stage3_reliability: of stage 3 on held-out images.
        confusion: on held-out images; None if an older version wrote the file.
    """

    per_class: ClassMetrics
    reliability: tuple[ReliabilityBin, ...]
    stage1_reliability: tuple[ReliabilityBin, ...] = ()
    stage3_reliability: tuple[ReliabilityBin, ...] = ()
    confusion: Confusions | None = optional()


def read_metrics(artifact: Artifact) -> EvaluationMetrics:
    """Return the metrics of an evaluation.

    Raises:
        UserError: they are absent, or not in the form that this package writes.
    """
    place = artifact.file(METRICS_FILE)
    metrics: EvaluationMetrics = read_document(place, EvaluationMetrics, "the figures of an evaluation", REMOVE)
    return metrics


def classifier_accuracy(data: Artifact, predictions: Artifact, leave_out: Collection[str] = ()) -> float:
    """Return the share of a data set's images that were given their true class.

    Args:
        data: a `Dataset`.
        predictions: `Predictions` of a classifier for it.
        leave_out: keys of images that are not counted.
    """
    keys, true = read_true_labels(read_index(data.url))
    counts = torch.tensor([key not in leave_out for shard in keys for key in shard])
    return accuracy(*known_pairs(true[counts], read_predicted(predictions, keys)[counts]))


def paired_accuracies(data: Artifact, first: Artifact, second: Artifact) -> PairedChange:
    """Compare the predictions of two classifiers for a data set, on the images that both could read."""
    keys, true = read_true_labels(read_index(data.url))
    predicted = read_predicted(first, keys), read_predicted(second, keys)
    known = known_by_all(true, *predicted)
    return compare_paired(true[known], *(labels[known] for labels in predicted))


def classifier_reliability(
    data: Artifact, predictions: Artifact, leave_out: Collection[str] = ()
) -> list[ReliabilityBin]:
    """Return how the confidence of predictions compares with their accuracy; see `classifier_accuracy`."""
    keys, true = read_true_labels(read_index(data.url))
    counts = torch.tensor([key not in leave_out for shard in keys for key in shard])
    return reliability_bins(
        true[counts], read_predicted(predictions, keys)[counts], read_confidence(predictions)[counts]
    )


def read_true_labels(index: DatasetIndex, most_shards: int | None = None) -> tuple[list[list[str]], torch.Tensor]:
    """Return a set's keys, shard by shard, and its true labels, in its order.

    Args:
        index: the set.
        most_shards: number of shards that are read, the first ones; None for all.
    """
    sidecars = [read_sidecar(index.label_sidecar(number), [LABEL]) for number in range(len(index.shards))[:most_shards]]
    labels = np.concatenate([sidecar[LABEL] for sidecar in sidecars])
    return [sidecar[KEY] for sidecar in sidecars], torch.from_numpy(labels)


def read_predicted(
    artifact: Artifact, keys: list[list[str]] | None = None, most_shards: int | None = None
) -> torch.Tensor:
    """Return predicted labels, `_UNREAD` where a shard could not be read; see `read_true_labels`."""
    labels = []
    files = PredictionsFacts.read(artifact).files[:most_shards]
    sidecars = read_predictions(artifact, LABEL, most_shards=most_shards)
    for number, (file, sidecar) in enumerate(zip(files, sidecars, strict=True)):
        if sidecar is None:
            labels.append(np.full(file.num_skipped, _UNREAD))
        elif keys is not None and sidecar[KEY] != keys[number]:
            raise UserError("does not list the images that it is compared with", where=artifact.url, fix="remove it")
        else:
            labels.append(sidecar[LABEL])
    return torch.from_numpy(np.concatenate(labels))


def read_confidence(artifact: Artifact, most_shards: int | None = None) -> torch.Tensor:
    """Return the confidence of predicted labels; nan where a shard could not be read; see `read_true_labels`."""
    values = []
    files = PredictionsFacts.read(artifact).files[:most_shards]
    for file, sidecar in zip(files, read_predictions(artifact, CONFIDENCE, most_shards=most_shards), strict=True):
        if sidecar is None:
            values.append(np.full(file.num_skipped, np.nan, np.float32))
        else:
            values.append(sidecar[CONFIDENCE])
    return torch.from_numpy(np.concatenate(values))


def reliability_bins(true: torch.Tensor, predicted: torch.Tensor, confidence: torch.Tensor) -> list[ReliabilityBin]:
    """Return bins of confidence with the accuracy in each, of images whose true and predicted labels are known."""
    known = known_by_all(true, predicted)
    return reliability(confidence[known], true[known] == predicted[known]) if known.any() else []


def known_by_all(labels: torch.Tensor, *predictions: torch.Tensor) -> torch.Tensor:
    """Return which images have a true label and every prediction, bool (N,)."""
    known = labels >= 0
    for predicted in predictions:
        known = known & (predicted != _UNREAD)
    return known


def known_pairs(labels: torch.Tensor, predictions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out images without a true label or without a prediction."""
    known = known_by_all(labels, predictions)
    return labels[known], predictions[known]


def tell_verdict(change: PairedChange | None) -> str:
    """Return whether a test tells stage 3 from stage 1, in a few words; empty if that is not known."""
    if change is None:
        return ""
    return ("" if change.is_distinguishable else "not ") + f"distinguishable (p = {change.p_value:.2g})"


_INTERVALS = {
    "stage1_accuracy": "stage1_interval",
    "stage3_accuracy": "stage3_interval",
    "pseudo_label_accuracy": "pseudo_label_interval",
    "pseudo_image_agreement": "pseudo_image_agreement_interval",
    "stage1_top5_accuracy": "stage1_top5_interval",
    "stage3_top5_accuracy": "stage3_top5_interval",
    "classification_accuracy_score": "classification_accuracy_score_interval",
}
"""Id of a metric -> field of its interval."""


def _bounds(metrics: EvaluationFacts, id: str) -> tuple[float, float] | None:
    interval: Interval | None = getattr(metrics, _INTERVALS[id]) if id in _INTERVALS else None
    return None if interval is None else (interval.low, interval.high)


def described_metrics(metrics: EvaluationFacts) -> tuple[Metric, ...]:
    """Return the figures of an evaluation that are known, each with its meaning."""
    known = [
        ("stage1_accuracy", "stage 1 accuracy", "Share of held-out images that the stage-1 classifier gets right."),
        ("pseudo_label_accuracy", "pseudo-label accuracy", "Share of unlabelled images that got their true class."),
        ("pseudo_label_mean_confidence", "pseudo-label confidence",
         "Mean confidence of pseudo-labels on unlabelled images; as high as their accuracy if it is calibrated."),
        ("pseudo_label_calibration_error", "pseudo-label calibration error",
         "Mean distance between confidence and accuracy of pseudo-labels on unlabelled images; 0 is calibrated."),
        ("stage3_accuracy", "stage 3 accuracy", "Share of held-out images that the retrained classifier gets right."),
        ("stage1_top5_accuracy", "stage 1 top-5 accuracy",
         "Share of held-out images whose class is among the five most probable ones of stage 1."),
        ("stage3_top5_accuracy", "stage 3 top-5 accuracy",
         "Share of held-out images whose class is among the five most probable ones of stage 3."),
        ("stage1_calibration_error", "stage 1 calibration error",
         "Mean distance between confidence and accuracy of stage 1 on held-out images; 0 is calibrated."),
        ("stage3_calibration_error", "stage 3 calibration error",
         "Mean distance between confidence and accuracy of stage 3 on held-out images; 0 is calibrated."),
        ("pseudo_image_agreement", "pseudo-image agreement",
         "Share of pseudo images in which the stage-1 classifier sees the class that was requested."),
        ("classification_accuracy_score", "classification accuracy score",
         "Share of held-out images that a classifier gets right which learnt from pseudo images alone."),
        ("duplicate_test_images", "duplicate test images",
         "Held-out images with the very pixels of a training image."),
        ("near_duplicate_test_images", "near-duplicate test images",
         "Further held-out images that look like a training image."),
        ("frechet_distance", "Fréchet distance (features of stage 1)",
         "Between training and pseudo images in the features of the stage-1 classifier (of its encoder, for a probe); "
         "0 is equal. "
         "Not comparable with distances in other features."),
    ]  # fmt: skip
    own = tuple(
        Metric(id, name, value, "", meaning, _bounds(metrics, id))
        for id, name, meaning in known
        if (value := getattr(metrics, id)) is not None
    )
    measured = generation_metrics(metrics.generation) if metrics.generation else ()
    if metrics.frechet_distance is not None and metrics.generation and metrics.generation.is_of_stage1:
        measured = measured[1:]  # the same distance
    return own + measured
