"""Chooses images to label: those that cover the features of all, then those that a classifier is least sure of.

Shapes: N images, D features, d principal components, L clusters, C classes. Points are the features' principal
components, normalised to length 1, so that a product of two is a similarity and memory does not grow with D.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.probe.neighbour_graph import Blocks, nearest_neighbours
from dpt_ray.core.probe.principal import principal_components

DIMENSIONS = 50
"""Principal components in which clusters are sought; distances in all features are dominated by noise."""
NEIGHBOURS = 20
"""Neighbours from whose similarity typicality follows, as published."""
_RESTARTS = 3


def coverage_points(blocks: Blocks) -> Tensor:
    """Return points float32 (N, d) of normalised features, which are read twice."""
    width = next(iter(blocks())).shape[1]
    projection = principal_components(blocks(), min(DIMENSIONS, width))
    return torch.nn.functional.normalize(torch.cat([projection(block) for block in blocks()]), dim=1)


def cluster_points(points: Tensor, clusters: int, seed: int) -> np.ndarray:
    """Return each image's cluster, int64 (N,), by k-means.

    Args:
        points: float32 (N, d).
        clusters: L, at most N.
        seed: of the first means.
    """
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=_RESTARTS, random_state=seed).fit_predict(points.numpy()).astype(np.int64)


def typical_images(points: Tensor, count: int, labelled: Sequence[int], seed: int = 0) -> np.ndarray:
    """Choose images that cover the features: TypiClust (Hacohen et al. 2022, arXiv 2202.02794, algorithm 1).

    The images are clustered into as many clusters as there will be labels. The largest clusters without a label give
    their most typical image each: that whose nearest neighbours in the cluster are the most similar.

    Args:
        points: float32 (N, d).
        count: number of images to choose.
        labelled: numbers of the images that have labels.
        seed: of the clusters.

    Returns:
        Int64 (count,), numbers of images, the largest cluster first.

    Raises:
        ValueError: fewer than `count` images have no label.
    """
    if count > len(points) - len(labelled):
        raise ValueError(f"{count} images of {len(points)}, of which {len(labelled)} are labelled")
    clusters = cluster_points(points, min(len(labelled) + count, len(points)), seed)
    free = np.ones(len(points), bool)
    free[list(labelled)] = False
    labels = np.bincount(clusters[list(labelled)], minlength=clusters.max() + 1)
    chosen: list[int] = []
    while len(chosen) < count:
        sizes = np.bincount(clusters[free], minlength=len(labels))
        # Few labels first, then many images; an empty cluster is never chosen.
        best = min(np.flatnonzero(sizes), key=lambda cluster: (labels[cluster], -sizes[cluster], cluster))
        members = np.flatnonzero(free & (clusters == best))
        image = int(members[_most_typical(points[torch.from_numpy(members)])])
        chosen.append(image)
        free[image] = False
        labels[best] += 1
    return np.array(chosen, np.int64)


def _most_typical(points: Tensor) -> int:
    if len(points) <= 2:
        return 0
    found = nearest_neighbours(lambda: [points], len(points), NEIGHBOURS)
    return int(found.similarities.mean(1).argmax())


def farthest_images(points: Tensor, count: int, labelled: Sequence[int], seed: int = 0) -> np.ndarray:
    """Choose images by k-center: each is the farthest from all that were chosen before (Sener and Savarese 2018).

    Args and returns are those of `typical_images`; without labelled images the first image is drawn.
    """
    if count > len(points) - len(labelled):
        raise ValueError(f"{count} images of {len(points)}, of which {len(labelled)} are labelled")
    nearest = torch.full((len(points),), torch.inf)
    for image in labelled:
        nearest = torch.minimum(nearest, 1 - points @ points[image])
    chosen: list[int] = []
    while len(chosen) < count:
        first = not chosen and not len(labelled)
        image = int(np.random.default_rng(seed).integers(len(points))) if first else int(nearest.argmax())
        chosen.append(image)
        nearest = torch.minimum(nearest, 1 - points @ points[image])
        nearest[[*labelled, *chosen]] = -torch.inf
    return np.array(chosen, np.int64)


def uncertain_images(
    points: Tensor, probabilities: np.ndarray, count: int, labelled: Sequence[int], seed: int = 0
) -> np.ndarray:
    """Choose images whose two most probable classes are nearly equally probable, one of each cluster.

    Without clusters they would be near duplicates of each other.

    Args:
        points: float32 (N, d).
        probabilities: of a classifier, (N, C).
        count: number of images to choose.
        labelled: numbers of images that are not chosen.
        seed: of the clusters.

    Returns:
        Int64 (count,), the least certain first.
    """
    if count > len(points) - len(labelled):
        raise ValueError(f"{count} images of {len(points)}, of which {len(labelled)} are labelled")
    best = np.sort(probabilities, axis=1)[:, -2:]
    order = np.argsort(best[:, 1] - best[:, 0], kind="stable")
    order = order[~np.isin(order, list(labelled))]
    clusters = cluster_points(points, min(count, len(points)), seed)
    firsts = {int(clusters[image]): int(image) for image in order[::-1]}
    chosen = sorted(firsts.values(), key=order.tolist().index)[:count]
    rest = [int(image) for image in order if image not in set(chosen)]
    return np.array([*chosen, *rest[: count - len(chosen)]], np.int64)
