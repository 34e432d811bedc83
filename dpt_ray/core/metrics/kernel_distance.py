"""Kernel distance between two sets of features; with Inception-v3's pooled features it is the KID."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.seeds import derive_seed

SUBSETS, SUBSET_SIZE = 100, 1000
"""Number and largest size of the subsets, as published."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of an estimate over subsets or splits."""

    mean: float
    deviation: float


@torch.no_grad()
def kernel_distance(real: Tensor, pseudo: Tensor, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE) -> Spread:
    """Return the squared maximum mean discrepancy for the kernel (x.y / D + 1)^3, over random subsets.

    The estimate of a subset is unbiased, so it may be negative. The draw of the subsets is fixed.

    Source: Binkowski et al., "Demystifying MMD GANs", ICLR 2018.

    Args:
        real: features (N, D), any float type.
        pseudo: features (M, D).
        subsets: number of subsets.
        subset_size: images of each kind in a subset, at most all; at least 2.

    Raises:
        ValueError: the shapes do not fit, a set has fewer than two rows, or a feature is not finite.
    """
    if real.ndim != 2 or pseudo.ndim != 2 or real.shape[1] != pseudo.shape[1]:
        raise ValueError(f"features of shapes {tuple(real.shape)} and {tuple(pseudo.shape)} cannot be compared")
    size = min(subset_size, len(real), len(pseudo))
    if size < 2:
        raise ValueError("a kernel distance needs at least 2 images of each kind")
    random = torch.Generator().manual_seed(derive_seed("kernel distance"))
    estimates = []
    for _ in range(subsets):
        some_real = real[torch.randperm(len(real), generator=random)[:size]].double()
        some_pseudo = pseudo[torch.randperm(len(pseudo), generator=random)[:size]].double()
        estimates.append(unbiased_discrepancy(some_real, some_pseudo))
    values = torch.tensor(estimates, dtype=torch.float64)
    if not values.isfinite().all():
        raise ValueError("features contain values that are not finite; the kernel distance is undefined")
    return Spread(values.mean().item(), values.std(correction=0).item())


def unbiased_discrepancy(x: Tensor, y: Tensor) -> float:
    """Return the unbiased estimate of the squared discrepancy from float64 features (N, D) and (M, D)."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_others(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    return (mean_of_others(x) + mean_of_others(y) - 2 * kernel(x, y).mean()).item()
