"""Metrics of predicted classes. Labels and predictions are int64 tensors (N,)."""

from torch import Tensor


def accuracy(labels: Tensor, predictions: Tensor) -> float:
    """Return the fraction of predictions that equal their label.

    Raises:
        ValueError: the shapes differ, or there are no predictions.
    """
    _check(labels, predictions)
    return (labels == predictions).double().mean().item()


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
