"""Clusters of the images of each class, as a finer condition of a generator.

Adaloglou et al. (2024, arXiv 2403.00570) condition on clusters of features in place of classes. Here each class is
divided, so that a class can still be asked for.

Shapes: N images, D features, C classes, K clusters of a class. Label (class, cluster) is class * K + cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.probe.coverage import cluster_points
from dpt_ray.core.probe.normalisation import normalise_rows


@dataclass(frozen=True, eq=False)
class ClassClusters:
    """The means of the clusters of each class, in normalised features (`normalise_rows`).

    Attributes:
        means: float32 (C, K, D); zeros for clusters that a class does not have.
        sizes: number of clusters of each class, int64 (C,), from 1 to K.
    """

    means: np.ndarray
    sizes: np.ndarray

    def labels(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the label (class, cluster) of each image, int64 (N,): of the nearest mean in its class.

        Args:
            features: (N, D).
            classes: int64 (N,); an `UNKNOWN_LABEL` stays one.
        """
        points = normalise_rows(torch.tensor(features)).numpy()
        found = np.full(len(classes), UNKNOWN_LABEL, np.int64)
        for label in np.unique(classes[classes != UNKNOWN_LABEL]):
            rows = np.flatnonzero(classes == label)
            means = self.means[label, : self.sizes[label]]
            distances = (means**2).sum(1) - 2 * points[rows] @ means.T  # less the points' own lengths, which are equal
            found[rows] = label * self.means.shape[1] + distances.argmin(1)
        return found


def cluster_classes(
    points: Mapping[int, np.ndarray], *, classes: int, clusters: int, dimensions: int, seed: int
) -> ClassClusters:
    """Divide the images of each class into clusters by k-means.

    Args:
        points: class -> normalised features of a sample of its images, float32 (n, D).
        classes: C.
        clusters: K; a class with fewer images in the sample has one for each of them.
        dimensions: D.
        seed: of the first means.
    """
    means = np.zeros((classes, clusters, dimensions), np.float32)
    sizes = np.ones(classes, np.int64)
    for label, sample in points.items():
        sizes[label] = max(1, min(clusters, len(np.unique(sample, axis=0))))
        if sizes[label] == 1:
            continue
        assigned = cluster_points(torch.from_numpy(sample), int(sizes[label]), seed)
        for cluster in range(sizes[label]):
            means[label, cluster] = sample[assigned == cluster].mean(0)
    return ClassClusters(means, sizes)


def drawn_clusters(counts: np.ndarray, classes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw a cluster of each wanted class, in proportion to the images that each cluster has, int64 (N,).

    Args:
        counts: images of each cluster, (C, K); a class without images has cluster 0 alone.
        classes: int64 (N,), the wanted classes.
        uniform: (N,) in [0, 1).
    """
    ends = counts.cumsum(1)[classes]
    clusters: np.ndarray = (ends <= (uniform * ends[:, -1])[:, None]).sum(1) * (ends[:, -1] > 0)
    return clusters
