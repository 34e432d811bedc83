"""Distribution alignment: scale predictions towards a class distribution (Berthelot et al., ReMixMatch, ICLR 2020)."""

import torch
from torch import Tensor, nn

from dpt_ray.core.collective import mean_over_workers

_TINY = 1e-6


class RunningDistribution(nn.Module):
    """Exponential moving average of the class probabilities over the rows of all workers.

    Buffer `value`: float32 (C,).

    Args:
        num_classes: number of classes, C.
        momentum: share of the old value that a step keeps, in [0, 1].
        uniform_start: start with the uniform distribution. Otherwise the first batch gives the first value.
    """

    value: Tensor

    def __init__(self, num_classes: int, momentum: float, *, uniform_start: bool = False):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.full((num_classes,), 1 / num_classes if uniform_start else 0.0))

    @torch.no_grad()
    def update(self, q_BC: Tensor) -> Tensor:
        """Update the average with a batch of probabilities, (B, C), and return the new value, (C,)."""
        mean = mean_over_workers(q_BC.mean(0))
        first = self.value.sum() == 0
        self.value.copy_(torch.where(first, mean, self.value.lerp(mean, 1 - self.momentum)))
        return self.value


def align(q_BC: Tensor, current: Tensor, wanted: Tensor) -> Tensor:
    """Scale the probabilities of each class by wanted / current, (C,) each, and each row to sum 1."""
    scaled = q_BC * (wanted + _TINY) / (current + _TINY)
    return scaled / scaled.sum(dim=1, keepdim=True)
