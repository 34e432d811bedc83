"""Fréchet distance between Gaussians fitted to features (Heusel et al. 2017), in float64.

Features may come from any network; with the pooled features of Inception-v3 the distance is the FID. Moments can be
merged, so that each worker reduces its own images. Shapes: N images, D features.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


class GaussianMoments:
    """Count, mean and covariance of feature vectors, updated batch by batch.

    The scatter matrix is accumulated around the running mean (Chan, Golub & LeVeque 1979). With sums of raw squares,
    cancellation would destroy the covariance of features with a large mean.

    Args:
        num_features: D.
        device: device of the accumulators; features are moved there.

    Attributes:
        count: number of feature vectors.
        mean: float64 (D,); zero while `count` is 0.
        scatter: float64 (D, D), sum of outer products of deviations from the mean.
    """

    def __init__(self, num_features: int, device: torch.device | str = "cpu"):
        self.count = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Add feature vectors, (N, D), any float type; N may be 0.

        Raises:
            ValueError: the shape is wrong, or a feature is not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"features must have shape (N, {len(self.mean)}), got {tuple(features.shape)}")
        if len(features) == 0:
            return
        features = features.to(self.mean)
        if not features.isfinite().all():
            raise ValueError("features contain values that are not finite; the Fréchet distance is undefined")
        mean = features.mean(0)
        deviation = features - mean
        self._add(len(features), mean, deviation.T @ deviation)

    def merge(self, other: "GaussianMoments") -> None:
        """Add the feature vectors of `other`, which is unchanged.

        Raises:
            ValueError: the numbers of features differ.
        """
        _check_same_size(self.mean, other.mean)
        if other.count > 0:
            self._add(other.count, other.mean.to(self.mean), other.scatter.to(self.mean))

    def covariance(self) -> Tensor:
        """Return the unbiased covariance, float64 (D, D).

        Raises:
            ValueError: there are fewer than two feature vectors.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, got {self.count}")
        return self.scatter / (self.count - 1)

    def gaussian(self) -> "Gaussian":
        """Return the Gaussian with this mean and covariance.

        Raises:
            ValueError: there are fewer than two feature vectors.
        """
        return Gaussian(self.mean, self.covariance())

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


def gaussian_moments(batches: Iterable[Tensor]) -> GaussianMoments:
    """Return the moments of the feature vectors of all batches; each batch is (N, D), with the same D.

    Raises:
        ValueError: there is no batch, the shapes differ, or a feature is not finite.
    """
    moments: GaussianMoments | None = None
    for features in batches:
        moments = moments or GaussianMoments(features.shape[1])
        moments.update(features)
    if moments is None:
        raise ValueError("no features are given")
    return moments


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian: its mean, float64 (D,), and its covariance, float64 (D, D)."""

    mean: Tensor
    covariance: Tensor


def frechet_distance(a: GaussianMoments, b: GaussianMoments) -> float:
    """Return the squared Fréchet distance between the Gaussians with these moments; see `gaussian_distance`.

    Raises:
        ValueError: the numbers of features differ, or either side has fewer than two vectors.
    """
    return gaussian_distance(a.gaussian(), b.gaussian())


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Fréchet distance |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) of covariances A and B.

    The trace of (A B)^(1/2) equals that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric and positive semidefinite. So
    the result is real for singular covariances, too (fewer images than features), where a general matrix square root
    is inaccurate.

    Raises:
        ValueError: the numbers of features differ.
    """
    _check_same_size(a.mean, b.mean)
    A, B = a.covariance, b.covariance.to(a.mean)
    values, vectors = torch.linalg.eigh(A)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = root @ B @ root
    trace_of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    squared_means = (a.mean - b.mean.to(a.mean)).square().sum()
    distance = squared_means + A.trace() + B.trace() - 2 * trace_of_root
    # Rounding can make the distance of equal Gaussians slightly negative.
    return max(0.0, distance.item())


def _check_same_size(a: Tensor, b: Tensor) -> None:
    if len(a) != len(b):
        raise ValueError(f"moments of {len(a)} and of {len(b)} features cannot be combined")
