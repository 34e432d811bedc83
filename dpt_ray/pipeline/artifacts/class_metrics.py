"""Figures of each class, and which classes are taken for which."""

from dataclasses import dataclass

from dpt_ray.core.metrics.class_counts import ClassCounts

Shares = tuple[float | None, ...]
"""A figure for each class; None for a class without images."""


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Precision and recall of pseudo-labels on unlabelled images, accuracies on held-out images, of each class.

    Attributes:
        pseudo_image_agreement: share of the class's pseudo images in which stage 1 sees the class. It and the next one
            are empty if an older version wrote them.
        pseudo_image_distance: Fréchet distance between real and pseudo images of the class in stage 1's features; empty
            without `evaluation.frechet`, and where there are too many classes (`MOST_VALUES` in
            `dpt_ray/pipeline/execution/class_quality.py`).
    """

    pseudo_label_precision: Shares
    pseudo_label_recall: Shares
    stage1_accuracy: Shares
    stage3_accuracy: Shares
    pseudo_image_agreement: Shares = ()
    pseudo_image_distance: Shares = ()


@dataclass(frozen=True)
class ClassPair:
    """Held-out images of one class that are predicted as one class.

    Attributes:
        true: id of the class that they have.
        predicted: id of the class that is predicted.
        images: their number, at least 1.
    """

    true: int
    predicted: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """The confusion matrices of both classifiers on held-out images, as their entries that are not 0."""

    stage1: tuple[ClassPair, ...]
    stage3: tuple[ClassPair, ...]


def class_pairs(counts: ClassCounts) -> tuple[ClassPair, ...]:
    """Return the entries of a confusion matrix that are not 0, row by row; the counts must keep pairs."""
    classes = len(counts.true)
    pairs = zip(counts.pairs.tolist(), counts.pair_images.tolist(), strict=True)
    return tuple(ClassPair(pair // classes, pair % classes, images) for pair, images in pairs)
