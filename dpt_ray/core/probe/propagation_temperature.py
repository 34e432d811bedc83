"""The temperature of label propagation where no label can be hidden to fit it."""

from collections.abc import Callable

import numpy as np
import torch

from dpt_ray.core.probe.propagation import UNKNOWN, class_probabilities
from dpt_ray.core.probe.temperature import fit_temperature
from dpt_ray.core.seeds import derive_seed

_ROUNDS = 5
_MOST_IMAGES = 20_000
"""Images to whose probabilities the temperature is fitted in each round; it bounds memory."""


def own_labels_temperature(
    scores: np.ndarray, labels: np.ndarray, propagate: Callable[[np.ndarray], np.ndarray], shares: np.ndarray
) -> float:
    """Return the temperature by which propagation finds its own result again from as many labels.

    In each round, random images stand in for the labelled ones: as many of each class, with the class that propagation
    gave them. The temperature fits the probabilities from these to the classes that propagation gave the other images.
    It takes those for true, so confidence is too high where whole groups of images have a wrong class.

    Args:
        scores: result of propagation from the given labels, (N, C).
        labels: int64 (N,), the given labels, `UNKNOWN` for none.
        propagate: maps labels to scores.
        shares: of the classes, (C,).

    Returns:
        The temperature, 1.0 if there are no labels or no other images.
    """
    found = np.where(scores.max(1) > 0, scores.argmax(1), UNKNOWN)
    counts = np.bincount(labels[labels != UNKNOWN], minlength=scores.shape[1])
    random = np.random.default_rng(derive_seed("temperature of propagation"))
    logits, targets = [], []
    for _ in range(_ROUNDS):
        given = np.full(len(labels), UNKNOWN)
        for label in np.flatnonzero(counts):
            members = np.flatnonzero(found == label)
            given[random.permutation(members)[: counts[label]]] = label
        rest = random.permutation(np.flatnonzero((given == UNKNOWN) & (found != UNKNOWN)))[:_MOST_IMAGES]
        if not (given != UNKNOWN).any() or not len(rest):
            return 1.0
        logits.append(np.log(class_probabilities(propagate(given)[rest]).clip(1e-12)))
        targets.append(found[rest])
    offset = torch.from_numpy(shares).clamp_min(1e-12).log()
    return fit_temperature(torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(targets)), offset)
