"""Principal components of features that are read in blocks."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """The projection x -> (x - mean) basis^T.

    Attributes:
        mean: float64 (D,).
        basis: float64 (d, D), orthonormal rows.
    """

    mean: Tensor
    basis: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return (N, d) float32 of features (N, D)."""
        return ((features.double() - self.mean) @ self.basis.T).float()


def principal_components(blocks: Iterable[Tensor], dimensions: int, device: torch.device | str = "cpu") -> Projection:
    """Return the projection onto the directions of largest variance, from one pass.

    Args:
        blocks: features float32 (n, D), for any sizes n.
        dimensions: d, at most D.
        device: device of the sums, and of the projection.

    Raises:
        ValueError: there are no features.
    """
    rows, total, scatter = 0, None, None
    for block in blocks:
        block = block.to(device).double()
        total = block.sum(0) if total is None else total + block.sum(0)
        product = block.T @ block
        scatter = product if scatter is None else scatter.add_(product)
        rows += len(block)
    if total is None or scatter is None or not rows:
        raise ValueError("no features")
    mean = total / rows
    _, vectors = torch.linalg.eigh(scatter / rows - mean[:, None] * mean)
    basis = vectors.flip(1)[:, :dimensions].T
    # The sign of an eigenvector is arbitrary; it is fixed so that other libraries and devices give the same mixture.
    signs = basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    return Projection(mean, (basis * signs).contiguous())
