"""Hand-made batches and models for the tests of semi-supervised algorithms."""

import math

import torch
from torch import nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.algorithm import Algorithm
from dpt_ray.core.semi_supervised.classification_objective import SemiSupervised
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Strong, Weak

WEAK = Weak(flip=False, crop_padding=0)
STRONG = Strong(WEAK, num_operations=0, cutout=0)


def make_objective(algorithm: Algorithm, **settings) -> SemiSupervised:
    """An objective whose views are the images themselves."""
    return SemiSupervised(algorithm, (0.0,), (1.0,), WEAK, STRONG, **settings)


def make_batch(count: int, labels: list[int] | None = None, first_seed: int = 0) -> ImageBatch:
    images = torch.randint(256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(first_seed))
    label_tensor = torch.tensor(labels if labels is not None else [UNKNOWN_LABEL] * count)
    random = RowRandom(range(first_seed, first_seed + count))
    return ImageBatch(images.to(torch.uint8), label_tensor, torch.arange(count), random)


class FixedLogits(nn.Module):
    """A model that answers each call with given logits, as a differentiable parameter."""

    def __init__(self, *blocks: list[list[float]]):
        super().__init__()
        self.logits = nn.Parameter(torch.cat([torch.tensor(block) for block in blocks]))
        self.calls = 0

    def forward(self, images):
        assert len(images) == len(self.logits)
        self.calls += 1
        return self.logits


def logits_of(*probabilities: list[float]) -> list[list[float]]:
    return [[math.log(p) for p in row] for row in probabilities]
