"""Metrics of predicted classes. Labels and predictions are int64 tensors (N,)."""

from torch import Tensor


def accuracy(labels: Tensor, predictions: Tensor) -> float:
    """Return the fraction of predictions that equal their label.

    Raises:
        ValueError: the shapes differ, or there are no predictions.
    """
    _check(labels, predictions)
    return (labels == predictions).double().mean().item()


def _check(labels: Tensor, predictions: Tensor) -> None:
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(
            "labels and predictions must be vectors of one length, "
            f"got shapes {tuple(labels.shape)} and {tuple(predictions.shape)}"
        )
    if len(labels) == 0:
        raise ValueError("there are no predictions to score")
