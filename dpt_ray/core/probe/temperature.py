"""Temperature of a probe's confidence (Guo et al. 2017), fitted on labelled images that the probe did not see."""

from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

LARGEST_LOG = 4.0
"""Temperatures lie between exp(-4) and exp(4)."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T > 0 that minimises the mean CE(softmax(logits / T), labels); logits (N, C), labels int64 (N,)."""
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return functional.cross_entropy(logits * torch.exp(torch.tensor(-log_temperature)), labels).item()

    found = minimize_scalar(loss, bounds=(-LARGEST_LOG, LARGEST_LOG), method="bounded")
    return float(torch.exp(torch.tensor(found.x)))


def out_of_fold_temperature(
    features: Tensor, labels: Tensor, fit: Callable[[Tensor, Tensor], Tensor], folds: int = 5
) -> float:
    """Return the temperature of a probe from logits of images left out of fits, class by class.

    Args:
        features: (N, D).
        labels: int64 (N,).
        fit: (features, labels) -> weight (C, D).
        folds: at most; each class gives every fold its share. No more than the smallest class has images.

    Returns:
        1.0 if some class has a single image: then nothing can be left out.
    """
    counts = labels.bincount()
    folds = min(folds, int(counts[counts > 0].min()))
    if folds < 2:
        return 1.0
    fold = torch.empty_like(labels)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        fold[members] = torch.arange(len(members)) % folds
    logits = torch.empty(len(labels), len(counts))
    for number in range(folds):
        out = fold == number
        logits[out] = features[out] @ fit(features[~out], labels[~out]).float().T
    return fit_temperature(logits, labels)
