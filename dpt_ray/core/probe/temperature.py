"""Temperature scaling of a probe (Guo et al. 2017), fitted on held-out labelled images."""

from collections.abc import Callable

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

LARGEST_LOG = 4.0
"""Bound of |log T|: temperatures lie between exp(-4) and exp(4)."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T > 0 that minimises the mean of CE(softmax(logits / T), labels).

    Args:
        logits: (N, C).
        labels: int64 (N,).
    """
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return functional.cross_entropy(logits * torch.exp(torch.tensor(-log_temperature)), labels).item()

    found = minimize_scalar(loss, bounds=(-LARGEST_LOG, LARGEST_LOG), method="bounded")
    return float(torch.exp(torch.tensor(found.x)))


def out_of_fold_temperature(
    features: Tensor, labels: Tensor, fit: Callable[[Tensor, Tensor], Tensor], folds: int = 5
) -> float:
    """Return the temperature of a probe, fitted on out-of-fold logits of stratified cross-validation.

    Args:
        features: (N, D) normalised features.
        labels: int64 (N,).
        fit: (features, labels) -> weight (C, D).
        folds: largest number of folds; fewer if the smallest class has fewer images.

    Returns:
        The temperature; 1.0 if some class has a single image, which cannot be held out.
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
        held_out = fold == number
        logits[held_out] = features[held_out] @ fit(features[~held_out], labels[~held_out]).float().T
    return fit_temperature(logits, labels)
