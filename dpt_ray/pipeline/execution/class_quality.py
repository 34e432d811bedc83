"""How good the pseudo images of each class are, to compare with the quality of its pseudo-labels."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.pipeline.artifacts.class_metrics import Shares
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts, read_predictions
from dpt_ray.pipeline.artifacts.store import Artifact

MOST_VALUES = 2**25
"""Values of all classes' covariances together (256 MiB in float64); with more, no distances by class are computed."""
FEWEST_IMAGES = 2
"""Images of a class without which it has no covariance."""


def class_distances(real: Artifact, true: Tensor, pseudo: Artifact, requested: Tensor, num_classes: int) -> Shares:
    """Return the Fréchet distance between real and pseudo images of each class, in the features of stage 1.

    With few images the distance is biased upwards, by about as much for classes with equal numbers of images.

    Args:
        real: stage 1's predictions for the real images, with features.
        true: true class of every real image, int64 (N,), negative where it is not known.
        pseudo: stage 1's predictions for the pseudo images, with features.
        requested: class that each pseudo image was sampled for, int64 (M,).
        num_classes: number of classes.

    Returns:
        One distance a class, None for a class with fewer than `FEWEST_IMAGES` on either side; empty where the
        covariances would have more than `MOST_VALUES` values.
    """
    sides = [_moments(artifact, labels, num_classes) for artifact, labels in ((real, true), (pseudo, requested))]
    if not all(sides):
        return ()
    return tuple(
        frechet_distance(a, b) if min(a.count, b.count) >= FEWEST_IMAGES else None for a, b in zip(*sides, strict=True)
    )


def class_moments(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> list[GaussianMoments]:
    """Return the moments of each class's features.

    Args:
        batches: features (N, D) and labels int64 (N,); rows with a negative label count for no class.
        num_classes: number of classes.

    Returns:
        One a class; empty without a batch, or if they would hold more than `MOST_VALUES` values.
    """
    moments: list[GaussianMoments] = []
    for features, labels in batches:
        size = features.shape[1]
        if num_classes * size**2 > MOST_VALUES:
            return []
        moments = moments or [GaussianMoments(size) for _ in range(num_classes)]
        for label in labels[labels >= 0].unique().tolist():
            moments[label].update(features[labels == label])
    return moments


def _moments(artifact: Artifact, labels: Tensor, num_classes: int) -> Sequence[GaussianMoments]:
    return class_moments(_features(artifact, labels), num_classes)


def _features(artifact: Artifact, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features of each shard that could be read, with the labels of its images."""
    start = 0
    files = PredictionsFacts.read(artifact).files
    for file, sidecar in zip(files, read_predictions(artifact, FEATURES), strict=True):
        rows = file.num_skipped if sidecar is None else len(sidecar[FEATURES])
        if sidecar is not None:
            yield torch.from_numpy(np.array(sidecar[FEATURES])), labels[start : start + rows]
        start += rows
