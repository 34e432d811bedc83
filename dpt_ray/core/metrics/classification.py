"""Metrics of predicted classes. Labels and predictions are int64 tensors (N,)."""

from torch import Tensor


def accuracy(labels: Tensor, predictions: Tensor) -> float:
    """Return the fraction of predictions that equal their label.

    Raises:
        ValueError: the shapes differ, or there are no predictions.
    """
    _check(labels, predictions)
    return (labels == predictions).double().mean().item()


def top_k_accuracy(labels: Tensor, top_classes: Tensor) -> float:
    """Return the fraction of images whose label is among their most probable classes.

    Args:
        labels: true classes, int64 (N,).
        top_classes: the most probable classes of each image, int64 (N, k).

    Raises:
        ValueError: the shapes do not fit, or there are no images.
    """
    if labels.ndim != 1 or top_classes.ndim != 2 or len(labels) != len(top_classes) or len(labels) == 0:
        raise ValueError("labels must be (N,) and top_classes (N, k), with at least one image")
    return (labels[:, None] == top_classes).any(1).double().mean().item()


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Count pairs: entry [i, j] is the number of images of class i predicted as class j.

    Returns:
        int64, (num_classes, num_classes).

    Raises:
        ValueError: the shapes differ, there are no predictions, or a class is outside [0, num_classes).
    """
    _check(labels, predictions)
    for name, values in (("labels", labels), ("predictions", predictions)):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{name} must lie in [0, {num_classes}), got values from {low} to {high}")
    pairs = labels.long() * num_classes + predictions.long()
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def class_precision(confusion: Tensor) -> Tensor:
    """Return TP / (TP + FP) of each class, float64 (C,); 0 for a class that was never predicted."""
    return _fraction(confusion.diagonal(), confusion.sum(0))


def class_recall(confusion: Tensor) -> Tensor:
    """Return TP / (TP + FN) of each class, float64 (C,); 0 for a class without images."""
    return _fraction(confusion.diagonal(), confusion.sum(1))


def _fraction(part: Tensor, whole: Tensor) -> Tensor:
    return part.double() / whole.clamp_min(1).double()


def _check(labels: Tensor, predictions: Tensor) -> None:
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(
            "labels and predictions must be vectors of one length, "
            f"got shapes {tuple(labels.shape)} and {tuple(predictions.shape)}"
        )
    if len(labels) == 0:
        raise ValueError("there are no predictions to score")
