"""How good the pseudo images of each class are, to compare with the quality of its pseudo-labels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.pipeline.artifacts.class_metrics import Shares
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts, prediction_sidecars, shard_counts
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_labels
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

MOST_VALUES = 2**25
"""Values of all classes' covariances together (256 MiB in float64); with more, no distances by class are computed."""
MOST_PARTS = 64
"""Most groups of shards whose moments are stored apart; a file holds up to `MOST_VALUES` values."""
FEWEST_IMAGES = 2
"""Images of a class without which it has no covariance."""


@dataclass(frozen=True)
class Distances:
    """Fréchet distances between real and pseudo images in the features of stage 1.

    Attributes:
        whole: of all images.
        by_class: one a class, None for a class with fewer than `FEWEST_IMAGES` on either side; empty where the
            covariances would have more than `MOST_VALUES` values. With few images a distance is biased upwards, by
            about as much for classes with equal numbers of images.
    """

    whole: float
    by_class: Shares


def feature_distances(context: StepContext, index: DatasetIndex, real: Artifact, pseudo: Artifact) -> Distances:
    """Compare real with pseudo images, whose moments are made by groups of shards.

    Args:
        context: that of the step.
        index: the real images, with their true labels.
        real: stage 1's predictions for the real images, with features.
        pseudo: stage 1's predictions for the pseudo images, with features.
    """
    first = _moments(context, real, label_sidecars(index), index.num_classes, "real_moments")
    second = _moments(context, pseudo, None, index.num_classes, "pseudo_moments")
    by_class: Shares = ()
    if first.by_class and second.by_class:
        by_class = tuple(
            frechet_distance(a, b) if min(a.count, b.count) >= FEWEST_IMAGES else None
            for a, b in zip(first.by_class, second.by_class, strict=True)
        )
    return Distances(frechet_distance(first.whole, second.whole), by_class)


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


@dataclass
class _Moments:
    """The moments of all images, and those of each class; empty where they would be too large."""

    whole: GaussianMoments
    by_class: list[GaussianMoments]

    def merge(self, other: "_Moments") -> None:
        self.whole.merge(other.whole)
        for mine, theirs in zip(self.by_class, other.by_class, strict=True):
            mine.merge(theirs)

    def encode(self) -> bytes:
        every = [self.whole, *self.by_class]
        return save(
            {
                "count": torch.tensor([moments.count for moments in every]),
                "mean": torch.stack([moments.mean for moments in every]),
                "scatter": torch.stack([moments.scatter for moments in every]),
            }
        )

    @classmethod
    def decode(cls, content: bytes) -> "_Moments":
        tensors = load(content)
        every = []
        for count, mean, scatter in zip(tensors["count"].tolist(), tensors["mean"], tensors["scatter"], strict=True):
            moments = GaussianMoments(len(mean))
            moments.count, moments.mean, moments.scatter = count, mean, scatter
            every.append(moments)
        return cls(every[0], every[1:])


def _moments(
    context: StepContext, predictions: Artifact, labels: SidecarUrls | None, num_classes: int, parts: str
) -> _Moments:
    """Return the moments of features; without `labels` of pseudo images, whose classes take turns."""
    whole: _Moments | None = None
    settings = {"sidecars": prediction_sidecars(predictions), "labels": labels, "num_classes": num_classes}
    groups = shard_groups(shard_counts(PredictionsFacts.read(predictions)), most=MOST_PARTS)
    for content in run_groups(_MomentsWorker, settings, groups, context, parts):
        if content:
            part = _Moments.decode(content)
            if whole is None:
                whole = part
            else:
                whole.merge(part)
    if whole is None:
        raise ValueError("no features are given")
    return whole


class _MomentsWorker(GroupWorker):
    def __init__(self, sidecars: SidecarUrls, labels: SidecarUrls | None, num_classes: int, folder: str):
        super().__init__(folder)
        self._sidecars, self._labels, self._num_classes = sidecars, labels, num_classes

    def make(self, unit: Group) -> bytes:
        whole: GaussianMoments | None = None

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal whole
            for position in unit.positions:
                if (found := self._read(unit, position)) is not None:
                    whole = whole or GaussianMoments(found[0].shape[1])
                    whole.update(found[0])
                    yield found

        shards = batches()
        by_class = class_moments(shards, self._num_classes)
        for _ in shards:  # `class_moments` stops where the classes' moments would be too large
            pass
        return b"" if whole is None else _Moments(whole, by_class).encode()

    def _read(self, unit: Group, position: int) -> tuple[Tensor, Tensor] | None:
        url = self._sidecars[position]
        if url is None:
            return None
        features = torch.from_numpy(np.array(read_sidecar(url, [FEATURES])[FEATURES]))
        if self._labels is None:
            return features, torch.from_numpy(conditioning_labels(unit.images_of(position), self._num_classes))
        place = self._labels[position]
        assert place is not None
        return features, torch.from_numpy(np.array(read_sidecar(place, [LABEL])[LABEL]))
