"""A Gaussian mixture of all features, whose components are tied to classes by the labelled images.

    p(x, y) = sum_l pi_l beta_{y,l} N(x; mu_l, Sigma_l)

It is the model of SemiOccam (arXiv 2506.03582), by expectation-maximisation, with differences that matter with few
labels: `docs/decisions/0086-heads-that-use-unlabelled-features.md`. Features are projected onto their principal
components first.

Shapes: N images, D features, d principal components, L components of the mixture, C classes. All sums are float64.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from dpt_ray.core.probe.propagation import UNKNOWN
from dpt_ray.core.seeds import derive_seed

_ROWS = 8192
"""Images whose densities are computed together; it bounds memory."""
_PRIOR_IMAGES = 10.0
"""Images that the prior of a covariance counts as: the covariance of all features within their first clusters."""
_PRIOR_LABELS = 0.1
"""Labels that the prior of a component's classes counts as."""
_CLUSTERING_PASSES = 20
_RELATIVE_FLOOR = 1e-3
"""Variance that is added to covariances, relative to the mean variance of a principal component."""


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture.

    Attributes:
        weights: pi, float64 (L,).
        means: mu, float64 (L, d).
        factors: Cholesky factors of Sigma, float64 (L, d, d); (1, d, d) if all components have one covariance.
        classes: beta, the probability of each class in a component, float64 (L, C); rows sum to 1.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor
    classes: Tensor

    def log_joint(self, points: Tensor) -> Tensor:
        """Return log(pi_l N(x; mu_l, Sigma_l)), float64 (n, L), of points (n, d)."""
        whiten = partial(torch.linalg.solve_triangular, upper=False)
        if len(self.factors) == 1:
            squared = torch.cdist(whiten(self.factors[0], points.T).T, whiten(self.factors[0], self.means.T).T) ** 2
        else:
            pairs = zip(self.factors, self.means, strict=True)
            squared = torch.stack([whiten(factor, (points - mean).T).square().sum(0) for factor, mean in pairs], dim=1)
        volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        return self.weights.log() - volume - points.shape[1] / 2 * math.log(2 * math.pi) - squared / 2


@dataclass
class MixtureFit:
    """A mixture and the course of its fit.

    Attributes:
        mixture: the mixture.
        objectives: negative log-likelihood of an image before each iteration, without the priors.
        change: last relative change of it.
        converged: whether that is at most the tolerance.
    """

    mixture: Mixture
    objectives: list[float] = field(default_factory=list)
    change: float = float("inf")
    converged: bool = False


def fit_mixture(
    points: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    components: int,
    shared: bool,
    tolerance: float = 1e-5,
    max_iterations: int = 200,
    seed: int = 0,
) -> MixtureFit:
    """Fit a mixture by expectation-maximisation.

    Args:
        points: float32 or float64 (N, d), on the device that computes.
        labels: int64 (N,), classes, `UNKNOWN` for images without one.
        num_classes: C.
        components: L, at least the number of labelled classes.
        shared: whether all components have one covariance.
        tolerance: the fit has converged when the log-likelihood of an image changes by less, relative to it.
        max_iterations: iterations after which it ends, at least 2.
        seed: of the first means.

    Raises:
        ValueError: there are more labelled classes than `components`, or fewer images than components.
    """
    start = _start(points, labels, num_classes, components, seed)
    fit = MixtureFit(start if shared else replace(start, factors=start.factors.repeat(components, 1, 1)))
    prior = _Prior(start.factors[0] @ start.factors[0].T, start.classes)
    before = math.inf
    for _ in range(max_iterations):
        sums, likelihood = _expect(points, labels, fit.mixture)
        fit.objectives.append(-likelihood / len(points))
        fit.change = abs(before - fit.objectives[-1]) / max(abs(fit.objectives[-1]), 1)
        fit.converged = fit.change <= tolerance
        if fit.converged:
            break
        before = fit.objectives[-1]
        fit.mixture = _maximise(sums, prior)
    return fit


@dataclass(frozen=True)
class _Prior:
    """The prior of covariances, float64 (d, d), and of each component's classes, float64 (L, C)."""

    covariance: Tensor
    classes: Tensor


@dataclass(frozen=True)
class _Sums:
    """Sums over images of responsibilities r.

    Attributes:
        mass: of r, (L,).
        first: of r x, (L, d).
        second: of r x x^T, (L, d, d); over all components, (1, d, d), if they share a covariance.
        labelled: of r of the labelled images of each class, (L, C).
    """

    mass: Tensor
    first: Tensor
    second: Tensor
    labelled: Tensor


def _expect(points: Tensor, labels: Tensor, mixture: Mixture) -> tuple[_Sums, float]:
    """Return the sums of an expectation step, and the log-likelihood before it."""
    sums = _Sums(
        *(torch.zeros_like(like) for like in (mixture.weights, mixture.means, mixture.factors, mixture.classes))
    )
    likelihood = 0.0
    log_classes = mixture.classes.log()
    for x, y in zip(points.split(_ROWS), labels.split(_ROWS), strict=True):
        x = x.double()
        known = (y != UNKNOWN).nonzero().flatten()
        joint = mixture.log_joint(x)
        joint[known] += log_classes[:, y[known]].T
        likelihood += joint.logsumexp(1).sum().item()
        r = joint.softmax(1)
        sums.mass.add_(r.sum(0))
        sums.first.add_(r.T @ x)
        if len(sums.second) == 1:
            sums.second[0].add_(x.T @ x)
        else:
            for total, share in zip(sums.second, r.T, strict=True):
                total.add_((x * share[:, None]).T @ x)
        sums.labelled.index_add_(1, y[known], r[known].T)
    return sums, likelihood


def _maximise(sums: _Sums, prior: _Prior) -> Mixture:
    mass = sums.mass.clamp_min(1e-9)
    means = sums.first / mass[:, None]
    weighted = mass[:, None, None] * means[:, :, None] * means[:, None, :]
    if len(sums.second) == 1:
        scatter, images = sums.second - weighted.sum(0), mass.sum()[None]
    else:
        scatter, images = sums.second - weighted, mass
    covariances = (scatter + _PRIOR_IMAGES * prior.covariance) / (images + _PRIOR_IMAGES)[:, None, None]
    labelled = sums.labelled + _PRIOR_LABELS * prior.classes
    return Mixture(
        weights=mass / mass.sum(),
        means=means,
        factors=torch.linalg.cholesky(covariances),
        classes=labelled / labelled.sum(1, keepdim=True),
    )


def _start(points: Tensor, labels: Tensor, num_classes: int, components: int, seed: int) -> Mixture:
    """Cluster the points by k-means; return the clusters as a mixture with one covariance.

    The first means are those of the labelled images of each class (seeded k-means, Basu et al. 2002), the others are
    drawn as k-means++ draws them, so that no class is without a component.
    """
    present = labels[labels != UNKNOWN].unique()
    if len(present) > components or components > len(points):
        raise ValueError(f"{components} components for {len(present)} labelled classes and {len(points)} images")
    random = torch.Generator().manual_seed(derive_seed("mixture", seed) % 2**63)
    means = torch.stack([points[labels == label].double().mean(0) for label in present])
    means = _add_means(points, means, components, random)
    for _ in range(_CLUSTERING_PASSES):
        nearest, _ = _nearest(points, means)
        counts = nearest.bincount(minlength=components)
        totals = torch.zeros_like(means).index_add_(0, nearest, points.double())
        moved = torch.where(counts[:, None] > 0, totals / counts.clamp_min(1)[:, None], means)
        if torch.equal(moved, means):
            break
        means = moved
    nearest, distance = _nearest(points, means)
    counts = nearest.bincount(minlength=components).double().clamp_min(0.5)
    covariance = torch.zeros(points.shape[1], points.shape[1], dtype=torch.float64, device=points.device)
    for x, number in zip(points.split(_ROWS), nearest.split(_ROWS), strict=True):
        rest = x.double() - means[number]
        covariance += rest.T @ rest / len(points)
    covariance.diagonal().add_(_RELATIVE_FLOOR * covariance.diagonal().mean().clamp_min(1e-12))
    return Mixture(
        weights=counts / counts.sum(),
        means=means,
        factors=torch.linalg.cholesky(covariance)[None],
        classes=_near_classes(points, labels, means, num_classes, distance),
    )


def _near_classes(points: Tensor, labels: Tensor, means: Tensor, num_classes: int, distance: Tensor) -> Tensor:
    """Return the prior of each component's classes, (L, C): labelled images weigh by a Gaussian of their distance.

    `distance` holds the squared distances of all points to their means, whose mean is the width of the Gaussian.
    """
    known = labels != UNKNOWN
    squared = torch.cdist(means, points[known].double()).square()
    weight = (-squared / (2 * distance.mean().clamp_min(1e-12))).softmax(1)
    near = torch.zeros(len(means), num_classes, dtype=torch.float64, device=means.device)
    near.index_add_(1, labels[known], weight)
    return 0.99 * near + 0.01 / num_classes


def _add_means(points: Tensor, means: Tensor, wanted: int, random: torch.Generator) -> Tensor:
    _, distance = _nearest(points, means)
    while len(means) < wanted:
        total = distance.sum().item()
        place = torch.rand((), generator=random, dtype=torch.float64).item() * total
        chosen = int(torch.searchsorted(distance.cumsum(0), place).clamp_max(len(points) - 1))
        mean = points[chosen].double()
        means = torch.cat((means, mean[None]))
        distance = torch.minimum(distance, (points.double() - mean).square().sum(1))
    return means


def _nearest(points: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Return each point's nearest mean and its squared distance."""
    found = [torch.cdist(x.double(), means).min(1) for x in points.split(_ROWS)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found]).square()
