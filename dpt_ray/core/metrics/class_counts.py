"""Counts of predictions by class and by confidence, which can be merged: what accuracies and calibration follow from.

Each worker counts its own images. Memory is O(C) for C classes, and O(pairs) where pairs of classes are kept.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from dpt_ray.core.metrics.calibration import BINS, ReliabilityBin, bin_sums, bins_of

_EMPTY = np.zeros(0, np.int64)


@dataclass(eq=False)
class ClassCounts:
    """Predictions of images whose true class is known.

    Attributes:
        true: images of each class, int64 (C,).
        predicted: images that each class is predicted for, int64 (C,).
        right: images of each class that are predicted as it, int64 (C,).
        bins: for each interval of confidence the images, the sum of their confidence, and those that are right, float64
            (3, `BINS`); zeros without confidence.
        pairs: pairs of classes that occur, true * C + predicted, ascending, int64 (P,); empty where they are not kept.
        pair_images: images of each pair, int64 (P,).
        top: images whose class is among the most probable ones, int64 (1,).
    """

    true: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    bins: np.ndarray
    pairs: np.ndarray
    pair_images: np.ndarray
    top: np.ndarray

    @classmethod
    def empty(cls, num_classes: int) -> "ClassCounts":
        """Return the counts of no image."""
        true, predicted, right = (np.zeros(num_classes, np.int64) for _ in range(3))
        return cls(true, predicted, right, np.zeros((3, BINS)), _EMPTY, _EMPTY, np.zeros(1, np.int64))

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.true.sum())

    @property
    def num_right(self) -> int:
        """Images that are predicted right."""
        return int(self.right.sum())

    @property
    def accuracy(self) -> float:
        """Share of images that are predicted right; there must be one."""
        return self.num_right / self.images

    def precision(self) -> list[float | None]:
        """Return the share of images predicted as a class that are of it; None for a class never predicted."""
        return _shares(self.right, self.predicted)

    def recall(self) -> list[float | None]:
        """Return the share of images of a class that are predicted as it; None for a class without images."""
        return _shares(self.right, self.true)

    def reliability(self) -> list[ReliabilityBin]:
        """Return the bins of confidence that hold images."""
        return bins_of(*torch.from_numpy(self.bins))

    def merge(self, other: "ClassCounts") -> None:
        """Add the images of `other`, which is unchanged."""
        for name in ("true", "predicted", "right", "bins", "top"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        pairs = np.concatenate([self.pairs, other.pairs])
        images = np.concatenate([self.pair_images, other.pair_images])
        self.pairs, places = np.unique(pairs, return_inverse=True)
        self.pair_images = np.bincount(places, images, len(self.pairs)).astype(np.int64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return name -> array, from which the constructor makes the counts again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def count_predictions(
    labels: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    *,
    confidence: np.ndarray | None = None,
    top_classes: np.ndarray | None = None,
    keep_pairs: bool = False,
) -> ClassCounts:
    """Count predictions.

    Args:
        labels: true classes, int (N,), in [0, `num_classes`).
        predicted: predicted classes, int (N,), in the same range.
        num_classes: C.
        confidence: of the predictions, float32 (N,).
        top_classes: the most probable classes, int (N, k).
        keep_pairs: keep pairs of classes.

    Raises:
        ValueError: a class is out of range.
    """
    for name, values in (("labels", labels), ("predictions", predicted)):
        if len(values) and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} must lie in [0, {num_classes}), got {values.min()} to {values.max()}")
    is_right = labels == predicted
    counts = ClassCounts.empty(num_classes)
    counts.true = np.bincount(labels, minlength=num_classes)
    counts.predicted = np.bincount(predicted, minlength=num_classes)
    counts.right = np.bincount(labels[is_right], minlength=num_classes)
    if confidence is not None:
        counts.bins = torch.stack(bin_sums(torch.from_numpy(confidence), torch.from_numpy(is_right))).numpy()
    if top_classes is not None:
        counts.top = (labels[:, None] == top_classes).any(1).sum(keepdims=True).astype(np.int64)
    if keep_pairs:
        codes = labels.astype(np.int64) * num_classes + predicted
        counts.pairs, counts.pair_images = np.unique(codes, return_counts=True)
    return counts


def _shares(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
    found = (parts / np.maximum(wholes, 1)).tolist()
    return [share if whole else None for share, whole in zip(found, wholes.tolist(), strict=True)]
