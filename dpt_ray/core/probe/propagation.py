"""Label propagation on a graph of images (Zhou et al., "Learning with Local and Global Consistency", NeurIPS 2004).

Shapes: N images, C classes.
"""

import numpy as np
from scipy import sparse

UNKNOWN = -1
"""The label of an image without one."""

_COLUMNS = 64
"""Classes that are solved for together; it bounds memory."""
_MAX_ITERATIONS = 1000
"""The condition number is at most 2 / (1 - alpha), so that some tens suffice."""


def propagate(graph: sparse.csr_array, labels: np.ndarray, num_classes: int, alpha: float) -> np.ndarray:
    """Return F = (1 - alpha) (I - alpha S)^(-1) Y, by conjugate gradients.

    Y has a row of one 1 for a labelled image and of zeros for any other (Zhou et al. 2004, equation 4).

    Args:
        graph: S, float64 (N, N), symmetric, with eigenvalues in [-1, 1].
        labels: int64 (N,), classes, `UNKNOWN` for images without one.
        num_classes: C.
        alpha: share that an image takes from its neighbours, from 0 to below 1.

    Returns:
        Float32 (N, C), not negative. The row of an image that no label reaches is zero.
    """
    given = np.flatnonzero(labels != UNKNOWN)
    found = np.zeros((len(labels), num_classes), np.float32)
    for first in range(0, num_classes, _COLUMNS):
        last = min(first + _COLUMNS, num_classes)
        rows = given[(labels[given] >= first) & (labels[given] < last)]
        start = np.zeros((len(labels), last - first))
        start[rows, labels[rows] - first] = 1 - alpha
        found[:, first:last] = _solve(graph, start, alpha)
    return found.clip(min=0)


def _solve(graph: sparse.csr_array, right: np.ndarray, alpha: float, tolerance: float = 1e-8) -> np.ndarray:
    """Solve (I - alpha S) X = right for all columns at once, each by its own conjugate gradients."""
    solution, residual = right.copy(), alpha * (graph @ right)
    direction = residual.copy()
    squared = (residual**2).sum(0)
    limit = tolerance**2 * (right**2).sum(0)
    for _ in range(_MAX_ITERATIONS):
        active = squared > limit
        if not active.any():
            break
        image = direction - alpha * (graph @ direction)
        curvature = (direction * image).sum(0)
        step = np.where(active, squared / np.where(curvature > 0, curvature, 1), 0)
        solution += step * direction
        residual -= step * image
        before, squared = squared, (residual**2).sum(0)
        direction = residual + np.where(active, squared / np.where(before > 0, before, 1), 0) * direction
    return solution


def with_equal_masses(scores: np.ndarray) -> np.ndarray:
    """Return scores whose sum in each class is 1, or 0 for a class that no image has a score of.

    Without it a class with more labels, or whose labelled images have many near neighbours, takes the images of others.

    Args:
        scores: result of `propagate`, (N, C).
    """
    masses = scores.sum(0, dtype=np.float64)
    return scores * np.where(masses > 0, 1 / np.where(masses > 0, masses, 1), 0).astype(np.float32)


def shares_of_classes(labels: np.ndarray, num_classes: int, *, equal: bool = False) -> np.ndarray:
    """Return the share of each class among the labels, float32 (C,).

    Args:
        labels: int64 (N,), `UNKNOWN` for images without one.
        num_classes: C.
        equal: give all classes with a label the same share instead.
    """
    counts = np.bincount(labels[labels != UNKNOWN], minlength=num_classes)
    if equal:
        counts = np.sign(counts)
    return (counts / max(1, counts.sum())).astype(np.float32)


def class_probabilities(scores: np.ndarray, temperature: float = 1.0, shares: np.ndarray | None = None) -> np.ndarray:
    """Return probabilities proportional to shares of classes and to scores to the power of 1 / temperature.

    Scores of `with_equal_masses` stand for p(image | class) ^ temperature: propagation by `alpha` near 1 makes the
    scores of classes nearly equal. So shares, which are p(class), are multiplied after the power. Class mass
    normalisation (Zhu et al. 2003) multiplies them before, and then the class with the most labels takes most images.

    Args:
        scores: float (N, C), not negative.
        temperature: above 1 it makes probabilities more even, below 1 less.
        shares: (C,), from `shares_of_classes`; None for equal ones.

    Returns:
        Float32 (N, C). Probabilities are the shares in a row of zeros.
    """
    peak = scores.max(axis=1, keepdims=True)
    relative = np.where(peak > 0, scores / np.where(peak > 0, peak, 1), 1)
    powers = relative ** (1 / temperature)
    if shares is not None and shares.any():
        powers = powers * shares
    total = powers.sum(axis=1, keepdims=True)
    return np.where(total > 0, powers / np.where(total > 0, total, 1), 1 / scores.shape[1]).astype(np.float32)
