"""Inception score from sums that merge: no image's probabilities are kept. S splits, C classes."""

import torch
from torch import Tensor

from dpt_ray.core.metrics.kernel_distance import Spread

SPLITS = 10
"""Number of splits, as published."""


class ScoreSums:
    """Sums of class probabilities in each split, from which the score follows.

    Args:
        classes: C.
        splits: S.

    Attributes:
        counts: number of images in each split, int64 (S,).
        totals: sum of their probabilities, float64 (S, C).
        negentropy: sum of p log p over their classes, float64 (S,).
    """

    def __init__(self, classes: int, splits: int = SPLITS):
        self.counts = torch.zeros(splits, dtype=torch.int64)
        self.totals = torch.zeros(splits, classes, dtype=torch.float64)
        self.negentropy = torch.zeros(splits, dtype=torch.float64)

    @torch.no_grad()
    def update(self, logits: Tensor, splits: Tensor) -> None:
        """Add images.

        Args:
            logits: (N, C).
            splits: split of each image, int64 (N,), from 0 to S - 1.
        """
        log_p = logits.double().log_softmax(1)
        p = log_p.exp()
        self.counts += splits.bincount(minlength=len(self.counts))
        self.totals.index_add_(0, splits, p)
        self.negentropy.index_add_(0, splits, torch.special.xlogy(p, p).sum(1))

    def merge(self, other: "ScoreSums") -> None:
        """Add the images of `other`, which is unchanged.

        Raises:
            ValueError: it has another number of splits or classes.
        """
        if self.totals.shape != other.totals.shape:
            raise ValueError(f"sums of shape {tuple(other.totals.shape)}, not {tuple(self.totals.shape)}")
        self.counts = self.counts + other.counts
        self.totals = self.totals + other.totals
        self.negentropy = self.negentropy + other.negentropy

    def score(self) -> Spread:
        """Return exp(mean KL(p(y|x), p(y))) over the splits that have images.

        Source: Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016.

        Raises:
            ValueError: there are no images.
        """
        used = self.counts > 0
        if not used.any():
            raise ValueError("an inception score needs images")
        counts = self.counts[used].double()
        marginal = self.totals[used] / counts[:, None]
        scores = (self.negentropy[used] / counts - torch.special.xlogy(marginal, marginal).sum(1)).exp()
        return Spread(scores.mean().item(), scores.std(correction=0).item())
