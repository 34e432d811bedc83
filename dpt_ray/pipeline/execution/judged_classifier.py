"""The figures of a classifier on held-out images."""

from dataclasses import dataclass

from dpt_ray.core.metrics.calibration import ReliabilityBin
from dpt_ray.core.metrics.class_counts import ClassCounts
from dpt_ray.core.metrics.uncertainty import Interval, wilson_interval
from dpt_ray.pipeline.artifacts.class_metrics import ClassPair, Shares, class_pairs
from dpt_ray.pipeline.artifacts.predictions import TOP


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


def judge_classifier(counts: ClassCounts) -> JudgedClassifier:
    """Return the figures of a classifier from the counts of its predictions, which keep pairs."""
    top5, top5_interval = None, None
    if len(counts.true) > TOP:
        top5 = int(counts.top[0]) / counts.images
        top5_interval = wilson_interval(int(counts.top[0]), counts.images)
    return JudgedClassifier(
        accuracy=counts.accuracy,
        interval=accuracy_interval(counts),
        per_class=tuple(counts.recall()),
        bins=counts.reliability(),
        confusion=class_pairs(counts),
        top5=top5,
        top5_interval=top5_interval,
    )


def accuracy_interval(counts: ClassCounts) -> Interval | None:
    """Return the interval of an accuracy; None without an image."""
    return wilson_interval(counts.num_right, counts.images) if counts.images else None
