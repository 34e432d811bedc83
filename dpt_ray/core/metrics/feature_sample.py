"""A bounded random sample of feature vectors that does not depend on the order in which images are seen."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpt_ray.core.seeds import derive_seed


def draw_priorities(keys: Sequence[str], purpose: str) -> Tensor:
    """Return a number in [0, 1) for each key, float64 (N,), as if drawn uniformly; it follows from key and purpose."""
    return torch.tensor([derive_seed(purpose, key) / 2**63 for key in keys], dtype=torch.float64).clamp_max(1 - 2**-53)


class FeatureSample:
    """The feature vectors of the images with the smallest priorities.

    Args:
        num_features: D.
        limit: largest number of vectors.

    Attributes:
        priorities: of the vectors, float64 (n,), ascending.
        features: float32 (n, D).
    """

    def __init__(self, num_features: int, limit: int):
        self.limit = limit
        self.priorities = torch.empty(0, dtype=torch.float64)
        self.features = torch.empty(0, num_features)

    def update(self, priorities: Tensor, features: Tensor) -> None:
        """Add images, and keep those with the smallest priorities.

        Args:
            priorities: float64 (N,).
            features: any float type (N, D).

        Raises:
            ValueError: the shapes do not fit.
        """
        if features.shape != (len(priorities), self.features.shape[1]):
            raise ValueError(f"features of shape {tuple(features.shape)} do not fit {len(priorities)} priorities")
        order = torch.cat([self.priorities, priorities]).argsort(stable=True)[: self.limit]
        self.priorities = torch.cat([self.priorities, priorities])[order]
        self.features = torch.cat([self.features, features.float()])[order]
