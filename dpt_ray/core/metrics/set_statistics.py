"""What the metrics of pseudo images need to know of a set of images: moments, sums, and a bounded sample of features.

Statistics of parts merge into those of the whole. A file is safetensors; it holds no image's features beyond the
sample.
"""

from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dpt_ray.core.metrics.feature_sample import FeatureSample, draw_priorities
from dpt_ray.core.metrics.frechet import GaussianMoments
from dpt_ray.core.metrics.inception_score import ScoreSums
from dpt_ray.core.weights import check_header

_SAMPLE, _SPLITS = "sample of features", "splits of the inception score"
_POOLED, _SPATIAL = "pooled", "spatial"


class SetStatistics:
    """Statistics of a set of images.

    Args:
        num_features: D.
        limit: largest number of images in the sample.
        device: device of the moments.

    Attributes:
        moments: of the features.
        sample: the features of some images.
        spatial: moments of spatial features; None if the network has none.
        scores: sums of the class probabilities; None if the network has no classes.
    """

    def __init__(self, num_features: int, limit: int, device: str = "cpu"):
        self.moments = GaussianMoments(num_features, device)
        self.sample = FeatureSample(num_features, limit)
        self.spatial: GaussianMoments | None = None
        self.scores: ScoreSums | None = None
        self._device = device

    @property
    def images(self) -> int:
        """Number of images."""
        return self.moments.count

    def update(
        self, keys: Sequence[str], features: Tensor, spatial: Tensor | None = None, logits: Tensor | None = None
    ) -> None:
        """Add images.

        Args:
            keys: the images' keys, N. Sample and splits follow from them alone.
            features: any float type (N, D).
            spatial: (N, E).
            logits: of classes, (N, C).

        Raises:
            ValueError: the shapes do not fit, or a feature is not finite.
        """
        self.moments.update(features)
        self.sample.update(draw_priorities(keys, _SAMPLE), features.cpu())
        if spatial is not None:
            self.spatial = self.spatial or GaussianMoments(spatial.shape[1], self._device)
            self.spatial.update(spatial)
        if logits is not None:
            self.scores = self.scores or ScoreSums(logits.shape[1])
            splits = (draw_priorities(keys, _SPLITS) * len(self.scores.counts)).long()
            self.scores.update(logits.cpu(), splits)

    def merge(self, other: "SetStatistics") -> None:
        """Add the images of `other`, which is unchanged.

        Raises:
            ValueError: its features come from another network.
        """
        if (self.spatial is None, self.scores is None) != (other.spatial is None, other.scores is None):
            raise ValueError("statistics of different networks cannot be merged")
        self.moments.merge(other.moments)
        self.sample.update(other.sample.priorities, other.sample.features)
        if self.spatial is not None and other.spatial is not None:
            self.spatial.merge(other.spatial)
        if self.scores is not None and other.scores is not None:
            self.scores.merge(other.scores)


def encode_statistics(statistics: SetStatistics, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of a file with statistics, and with texts by name."""
    tensors = {"sample.priorities": statistics.sample.priorities, "sample.features": statistics.sample.features}
    for name, moments in ((_POOLED, statistics.moments), (_SPATIAL, statistics.spatial)):
        if moments is not None:
            tensors[f"{name}.count"] = torch.tensor([moments.count])
            tensors |= {f"{name}.mean": moments.mean.cpu(), f"{name}.scatter": moments.scatter.cpu()}
    if statistics.scores is not None:
        for part in ("counts", "totals", "negentropy"):
            tensors[f"scores.{part}"] = getattr(statistics.scores, part)
    return save({name: value.contiguous() for name, value in tensors.items()}, dict(metadata or {}))


def decode_statistics(data: bytes, limit: int) -> SetStatistics:
    """Return the statistics in a file.

    Args:
        data: its content.
        limit: largest number of images in the sample.

    Raises:
        ValueError: the file is damaged, or another one.
    """
    try:
        check_header(data)
        tensors = load(data)
        features = tensors["sample.features"]
        statistics = SetStatistics(features.shape[1], limit)
        statistics.moments = _moments(tensors, _POOLED)
        statistics.sample.update(tensors["sample.priorities"], features)
        if f"{_SPATIAL}.count" in tensors:
            statistics.spatial = _moments(tensors, _SPATIAL)
        if "scores.totals" in tensors:
            splits, classes = tensors["scores.totals"].shape
            statistics.scores = ScoreSums(classes, splits)
            for part in ("counts", "totals", "negentropy"):
                setattr(statistics.scores, part, tensors[f"scores.{part}"])
    except (LookupError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"holds no statistics of features: {error}") from error
    return statistics


def _moments(tensors: dict[str, Tensor], name: str) -> GaussianMoments:
    mean, scatter = tensors[f"{name}.mean"], tensors[f"{name}.scatter"]
    moments = GaussianMoments(len(mean))
    moments.count, moments.mean, moments.scatter = int(tensors[f"{name}.count"]), mean, scatter
    return moments
