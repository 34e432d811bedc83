"""Clusters of images, from a sample of them that groups of shards select."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.numpy import load, save

from dpt_ray.core.probe.class_clusters import ClassClusters, cluster_classes
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, sidecars_where
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.features import FEATURES, SIDECAR_FOLDER, FeaturesFacts
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts, prediction_sidecars, shard_counts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

CLUSTERS_FILE = "clusters.safetensors"
IMAGES_PER_CLUSTER = 256
"""Images of the sample for each cluster, unless there are too many features."""
SAMPLED_NUMBERS = 2**26
"""Approximate number of features that the driver holds, 128 MiB."""
_SAMPLE = "cluster_sample"
_SEEDS = 2**63
"""Number of seeds that a hash of a key may be."""


def divide_classes(context: StepContext, labels: Artifact, featured: Artifact, clusters: int) -> ClassClusters:
    """Divide the images of each class into clusters.

    Args:
        context: that of the step.
        labels: pseudo-labels.
        featured: stage 1's predictions for the same images, with features.
        clusters: number of clusters of a class.
    """
    facts = PredictionsFacts.read(labels)
    counts, sidecars = shard_counts(facts), prediction_sidecars(featured)
    return _found(context, facts.predicted_per_class, counts, prediction_sidecars(labels), sidecars, clusters)


def cluster_images(context: StepContext, featured: Artifact, clusters: int) -> ClassClusters:
    """Divide all images into clusters: those of one class, 0.

    Args:
        context: that of the step.
        featured: features of the images.
        clusters: number of clusters.
    """
    facts = FeaturesFacts.read(featured)
    counts = np.array([file.images if file.is_made else file.num_skipped for file in facts.files], np.int64)
    sidecars = sidecars_where(featured.file(SIDECAR_FOLDER), [file.is_made for file in facts.files])
    return _found(context, [facts.images], counts, None, sidecars, clusters)


def _found(
    context: StepContext,
    images: Sequence[int],
    counts: np.ndarray,
    labels: SidecarUrls | None,
    features: SidecarUrls,
    clusters: int,
) -> ClassClusters:
    """Return the clusters of classes with so many images each, in shards with so many each."""
    first = next((url for place in range(len(features)) if (url := features[place]) is not None), None)
    dimensions = read_sidecar(first, [FEATURES])[FEATURES].shape[1] if first is not None else 1
    shares = sampled_shares(images, clusters, dimensions)
    settings = {"labels": labels, "features": features, "shares": shares}
    points = defaultdict(list)
    for content in run_groups(_SampleWorker, settings, shard_groups(counts), context, _SAMPLE):
        part = load(content)
        for label in np.unique(part[LABEL]):
            points[int(label)].append(part[FEATURES][part[LABEL] == label].astype(np.float32))
    return cluster_classes(
        {label: np.concatenate(parts) for label, parts in points.items()},
        classes=len(images),
        clusters=clusters,
        dimensions=dimensions,
        seed=0,
    )


def sampled_shares(images: Sequence[int], clusters: int, dimensions: int) -> np.ndarray:
    """Return the share of each class's images that are in the sample, float64 (C,).

    Args:
        images: number of images of each class.
        clusters: number of clusters of a class.
        dimensions: number of features.
    """
    most = min(IMAGES_PER_CLUSTER * clusters, SAMPLED_NUMBERS / (dimensions * len(images)))
    shares: np.ndarray = np.minimum(1.0, most / np.maximum(1, np.array(images, np.float64)))
    return shares


def write_clusters(url: str, found: ClassClusters) -> None:
    """Write clusters into a file that `read_clusters` reads."""
    stores.write_bytes(url, save({"means": found.means, "sizes": found.sizes}))


def read_clusters(url: str) -> ClassClusters:
    """Read the file of `write_clusters`."""
    return ClassClusters(**load(stores.read_bytes(url)))


class _SampleWorker(GroupWorker):
    """Its file holds the classes and normalised features, float16, of a sample that a hash of the keys selects."""

    def __init__(self, labels: SidecarUrls | None, features: SidecarUrls, shares: np.ndarray, folder: str):
        super().__init__(folder)
        self._labels, self._features, self._shares = labels, features, shares

    def make(self, unit: Group) -> bytes:
        parts = [part for position in unit.positions if (part := self._of_shard(position)) is not None]
        if not parts:
            return save({LABEL: np.zeros(0, np.int64), FEATURES: np.zeros((0, 1), np.float16)})
        labels, features = zip(*parts, strict=True)
        return save({LABEL: np.concatenate(labels), FEATURES: np.concatenate(features)})

    def _of_shard(self, position: int) -> tuple[np.ndarray, np.ndarray] | None:
        url = self._features[position]
        labels = self._labels[position] if self._labels is not None else None
        if url is None or (self._labels is not None and labels is None):
            return None
        given = read_sidecar(url, [FEATURES])
        classes = np.zeros(len(given[KEY]), np.int64) if labels is None else read_sidecar(labels, [LABEL])[LABEL]
        draws = derive_seeds(("cluster sample",), given[KEY]) / _SEEDS
        rows = np.flatnonzero(draws < self._shares[classes])
        points = normalise_rows(torch.from_numpy(given[FEATURES][rows])).numpy()
        return np.array(classes)[rows], points.astype(np.float16)
