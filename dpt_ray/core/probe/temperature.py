"""Temperature scaling of a probe (Guo et al. 2017), fitted on held-out labelled images."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_LOG = 4.0
"""Bound of |log T|: temperatures lie between exp(-4) and exp(4)."""


def fit_temperature(logits: Tensor, labels: Tensor, offset: Tensor | None = None) -> float:
    """Return the temperature T > 0 that minimises the mean of CE(softmax(logits / T + offset), labels).

    Args:
        logits: (N, C).
        labels: int64 (N,).
        offset: (C,); None for zeros.
    """
    from scipy.optimize import minimize_scalar  # loads slowly

    logits = logits.double()
    added = logits.new_zeros(logits.shape[1]) if offset is None else offset.to(logits)

    def loss(log_temperature: float) -> float:
        return functional.cross_entropy(logits * torch.exp(torch.tensor(-log_temperature)) + added, labels).item()

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

    def logits(held_out: Tensor) -> Tensor:
        return features[held_out] @ fit(features[~held_out], labels[~held_out]).float().T

    return held_out_temperature(labels, logits, folds)


def held_out_temperature(
    labels: Tensor, logits: Callable[[Tensor], Tensor], folds: int = 5, offset: Tensor | None = None
) -> float:
    """Return the temperature of a classifier, fitted on its logits of labelled images whose labels it did not get.

    Args:
        labels: int64 (N,) of the labelled images.
        logits: maps the images of a fold, bool (N,), to their logits (n, C) without their labels.
        folds: largest number of folds; fewer if the smallest class has fewer images.
        offset: as for `fit_temperature`.

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
    found = torch.empty(len(labels), 0)
    for number in range(folds):
        held_out = fold == number
        values = logits(held_out)
        found = found if found.shape[1] else torch.empty(len(labels), values.shape[1])
        found[held_out] = values.float()
    return fit_temperature(found, labels, offset)
