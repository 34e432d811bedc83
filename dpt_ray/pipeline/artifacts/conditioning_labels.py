"""The labels on which a generator is conditioned, where they differ from the pseudo-labels."""

from dataclasses import dataclass

import numpy as np

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.models.confidence_embedding import CERTAIN
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile

LABELLED = "labelled"


@dataclass(frozen=True, kw_only=True)
class ConditionedShard(ShardFile):
    """The labels of one shard; see `ConditioningLabelsFacts`. Counts are None for a shard that could not be read.

    Attributes:
        labels: images of each label; see `label_counts.py`. None where labels are classes.
    """

    known: int | None = optional()
    corrected: int | None = optional()
    dropped: int | None = optional()
    labels: str | None = optional()


@dataclass(frozen=True, kw_only=True)
class ConditioningLabelsFacts(Facts):
    """The facts of `ConditioningLabels`.

    Attributes:
        images: images with a pseudo-label.
        known: images whose true label is used.
        corrected: those of them whose pseudo-label differs.
        dropped: images whose label is left out for its low confidence.
        images_of_labels: images of each label (class, cluster), in the order of the labels; empty where labels are
            classes.
        files: the sidecars, in the order of the shards.
    """

    images: int
    known: int
    corrected: int
    dropped: int
    images_of_labels: tuple[int, ...] = ()
    files: tuple[ConditionedShard, ...]


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
