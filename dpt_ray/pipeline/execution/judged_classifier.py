"""The figures of a classifier on held-out images."""

from dataclasses import dataclass

import torch

from dpt_ray.core.metrics.calibration import ReliabilityBin
from dpt_ray.core.metrics.classification import accuracy, class_recall, confusion_matrix, top_k_accuracy
from dpt_ray.core.metrics.uncertainty import Interval, wilson_interval
from dpt_ray.pipeline.artifacts.class_metrics import ClassPair, Shares, class_pairs
from dpt_ray.pipeline.artifacts.evaluation import read_confidence, read_top_classes, reliability_bins
from dpt_ray.pipeline.artifacts.predictions import TOP
from dpt_ray.pipeline.artifacts.store import Artifact


@dataclass(frozen=True)
class JudgedClassifier:
    """A classifier on the held-out images.

    Attributes:
        accuracy: of all images.
        interval: of that accuracy.
        per_class: accuracy of each class.
        bins: how its confidence compares with its accuracy.
        confusion: which classes it takes for which.
        top5: share of images whose class is among the five most probable ones; None for at most five classes.
        top5_interval: of that share.
    """

    accuracy: float
    interval: Interval | None
    per_class: Shares
    bins: list[ReliabilityBin]
    confusion: tuple[ClassPair, ...]
    top5: float | None
    top5_interval: Interval | None


def judge_classifier(
    labels: torch.Tensor, predicted: torch.Tensor, predictions: Artifact, known: torch.Tensor, num_classes: int
) -> JudgedClassifier:
    """Compare a classifier's predictions for held-out images with their true classes.

    Args:
        labels: true classes of the known images, int64 (N,).
        predicted: predicted classes of the same images.
        predictions: the artifact with all predictions.
        known: which of all images those are, bool (all images,).
        num_classes: number of classes.
    """
    confusion = confusion_matrix(labels, predicted, num_classes)
    top5, top5_interval = None, None
    if num_classes > TOP:
        top5 = top_k_accuracy(labels, read_top_classes(predictions, known))
        top5_interval = wilson_interval(round(top5 * len(labels)), len(labels))
    return JudgedClassifier(
        accuracy=accuracy(labels, predicted),
        interval=accuracy_interval(labels, predicted),
        per_class=known_shares(class_recall(confusion), confusion.sum(1)),
        bins=reliability_bins(labels, predicted, read_confidence(predictions)[known]),
        confusion=class_pairs(confusion),
        top5=top5,
        top5_interval=top5_interval,
    )


def accuracy_interval(labels: torch.Tensor, predictions: torch.Tensor) -> Interval | None:
    """Return the interval of an accuracy; None without an image."""
    return wilson_interval(int((labels == predictions).sum()), len(labels)) if len(labels) else None


def class_shares(labels: torch.Tensor, predictions: torch.Tensor, num_classes: int) -> Shares:
    """Return the share of each class's images that are predicted as this class."""
    confusion = confusion_matrix(labels, predictions, num_classes)
    return known_shares(class_recall(confusion), confusion.sum(1))


def known_shares(shares: torch.Tensor, wholes: torch.Tensor) -> Shares:
    """Return shares of wholes, None where the whole is 0."""
    return tuple(share if whole > 0 else None for share, whole in zip(shares.tolist(), wholes.tolist(), strict=True))
