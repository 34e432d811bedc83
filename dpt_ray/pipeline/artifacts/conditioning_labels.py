"""Labels that a generator learns from, in place of the bare pseudo-labels."""

import numpy as np

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.models.confidence_embedding import CERTAIN

LABELLED = "labelled"


def conditioned(
    labels: np.ndarray, confidence: np.ndarray, known: dict[int, int], least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that a generator is given, int64 (N,), and their confidence, float32 (N,).

    Args:
        labels: pseudo-labels (N,).
        confidence: of each, (N,).
        known: row -> true label.
        least: a pseudo-label that is less confident becomes `UNKNOWN_LABEL`.
    """
    labels = np.where(confidence < least, UNKNOWN_LABEL, labels).astype(np.int64)
    confidence = confidence.astype(np.float32)
    rows = list(known)
    labels[rows], confidence[rows] = list(known.values()), CERTAIN
    return labels, confidence
