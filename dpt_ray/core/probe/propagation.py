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


def with_class_shares(scores: np.ndarray, labels: np.ndarray, *, equal: bool = False) -> np.ndarray:
    """Return scores whose sum in each class is the share of that class among the labels, up to a common factor.

    This is the class mass normalisation of Zhu et al. (2003). Without it a class whose few labelled images have many
    near neighbours takes the images of others.

    Args:
        scores: result of `propagate`, (N, C).
        labels: as there.
        equal: give all classes with a label the same share instead.
    """
    shares = np.bincount(labels[labels != UNKNOWN], minlength=scores.shape[1])
    if equal:
        shares = np.sign(shares)
    masses = scores.sum(0, dtype=np.float64)
    return scores * np.where(masses > 0, shares / np.where(masses > 0, masses, 1), 0).astype(np.float32)


def class_probabilities(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities proportional to the scores to the power of 1 / temperature.

    Args:
        scores: float (N, C), not negative.
        temperature: above 1 it makes probabilities more even, below 1 less.

    Returns:
        Float32 (N, C). All classes are equally probable in a row of zeros.
    """
    peak = scores.max(axis=1, keepdims=True)
    relative = np.where(peak > 0, scores / np.where(peak > 0, peak, 1), 1)
    powers = relative ** (1 / temperature)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
