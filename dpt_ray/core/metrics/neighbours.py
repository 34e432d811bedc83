"""Distances to nearest neighbours, and the metrics of two sets of features that follow from them.

Distances are computed block by block in float64, so that memory grows with N and not with N^2. Shapes: N real and M
pseudo images, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR, WIDE = 3, 5
"""k of the k-th nearest neighbour: 3 for precision and recall (Kynkaanniemi et al. 2019), 5 for density and coverage
(Naeem et al. 2020), as published."""

_BLOCK = 1024
"""Rows of a block of distances."""


@dataclass(frozen=True)
class Support:
    """How the supports of two distributions overlap.

    Attributes:
        precision: share of the pseudo images inside the support of the real ones: within the distance from some real
            image to its third nearest real neighbour.
        recall: share of the real images inside the support of the pseudo images.
        density: number of balls of the real images (up to the fifth nearest neighbour) in which a pseudo image lies,
            over 5, on average; it may exceed 1.
        coverage: share of the real images whose ball holds a pseudo image.
    """

    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def compare_supports(real: Tensor, pseudo: Tensor) -> Support:
    """Return precision and recall, density and coverage.

    Sources: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019;
    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.

    Args:
        real: features (N, D), any float type.
        pseudo: features (M, D).

    Raises:
        ValueError: the shapes do not fit, a feature is not finite, or a set has at most `WIDE` rows.
    """
    real, pseudo = _comparable(real, pseudo)
    if min(len(real), len(pseudo)) <= WIDE:
        raise ValueError(f"{WIDE} neighbours need at least {WIDE + 1} images of each kind")
    real_radii = neighbour_distances(real, (NEAR, WIDE))
    near, wide = real_radii[:, 0], real_radii[:, 1]
    pseudo_near = neighbour_distances(pseudo, (NEAR,))[:, 0]
    precise, balls = torch.zeros(len(pseudo), dtype=torch.bool), 0
    recalled, covered = torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for rows, squared in _squared_blocks(real, pseudo):
        precise |= (squared <= near[rows, None] ** 2).any(0)
        recalled[rows] = (squared <= pseudo_near**2).any(1)
        inside = squared <= wide[rows, None] ** 2
        balls += int(inside.sum())
        covered[rows] = inside.any(1)
    return Support(
        precision=precise.double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls / (WIDE * len(pseudo)),
        coverage=covered.double().mean().item(),
    )


@torch.no_grad()
def neighbour_distances(points: Tensor, neighbours: tuple[int, ...]) -> Tensor:
    """Return the distance from each point to its k-th nearest other point, float64 (N, K), for each of K values of k.

    Args:
        points: features (N, D).
        neighbours: the values of k, from 1 to N - 1.
    """
    points = points.double()
    found = torch.empty(len(points), len(neighbours), dtype=torch.float64)
    for rows, squared in _squared_blocks(points, points):
        squared[torch.arange(len(squared)), torch.arange(rows.start, rows.stop)] = torch.inf  # not its own neighbour
        smallest = squared.topk(max(neighbours), dim=1, largest=False).values
        found[rows] = smallest[:, [k - 1 for k in neighbours]].sqrt()
    return found


@torch.no_grad()
def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return the distance from each of N points to the nearest of M others, float64 (N,).

    Raises:
        ValueError: the shapes do not fit, there are no others, or a feature is not finite.
    """
    others, points = _comparable(others, points)
    found = torch.empty(len(points), dtype=torch.float64)
    for rows, squared in _squared_blocks(points, others):
        found[rows] = squared.amin(1).sqrt()
    return found


def _comparable(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, shifted by one mean, which leaves distances and keeps their digits."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or len(a) == 0:
        raise ValueError(f"features of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared")
    a, b = a.double(), b.double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features contain values that are not finite; distances are undefined")
    mean = a.mean(0)
    return a - mean, b - mean


def _squared_blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of `a` and their squared distances to all of `b`, float64 (rows, len(b))."""
    norms = b.square().sum(1)
    for start in range(0, len(a), _BLOCK):
        block = a[start : start + _BLOCK]
        squared = torch.addmm(norms, block, b.T, alpha=-2)
        yield slice(start, start + len(block)), squared.add_(block.square().sum(1)[:, None]).clamp_min_(0)
