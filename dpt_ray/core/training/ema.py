"""Exponential moving average of a network's weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpt_ray.core.collective import own_part


@dataclass(frozen=True)
class HalfLife:
    """The decay of a step, given by a half-life in images (reference: EDM).

    Attributes:
        images: the half-life in images.
        images_per_step: number of images in a step.
        ramp: limit of the half-life as a share of the images seen before the step, so that the initial weights decay
            quickly; None sets no limit.
    """

    images: int
    images_per_step: int
    ramp: float | None = None

    def __call__(self, images_seen: int) -> float:
        half_life = self.images if self.ramp is None else min(self.images, self.ramp * images_seen)
        return 0.5 ** (self.images_per_step / half_life) if half_life > 0 else 0.0


@dataclass(frozen=True)
class Rising:
    """A decay that rises linearly to 1 at the end of the training (reference: Grill et al. 2020, BYOL; MSN).

    Attributes:
        start: the decay of the first step.
        total_images: length of the training in images.
    """

    start: float
    total_images: int

    def __call__(self, images_seen: int) -> float:
        return 1 - (1 - self.start) * max(0.0, 1 - images_seen / self.total_images)


class Ema:
    """Averaged copy of a network, initialised with the network's weights.

    Batch-norm statistics are averaged with the same decay, so that they match the averaged weights.

    Args:
        model: the network in training.
        decay: share of the old average that a step keeps, in [0, 1), or a function from the number of images seen
            before the step to this share.
    """

    def __init__(self, model: nn.Module, decay: float | Callable[[int], float]):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def update(self, model: nn.Module, images_seen: int = 0) -> None:
        """Move the average towards `model` by 1 - decay; `images_seen` is the number before the step."""
        self.move(model, self.share(images_seen))

    def share(self, images_seen: int) -> float:
        """Return 1 - decay; `images_seen` is the number before the step."""
        return 1 - (self.decay(images_seen) if callable(self.decay) else self.decay)

    def move(self, model: nn.Module, share: float | Tensor) -> None:
        """Move the average towards `model` by a share, a number or a scalar on the device."""
        move_average(self.model, model, share)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, share: float | Tensor) -> None:
    """Move all floating-point tensors of `average` towards those of `model` by a share; copy the others."""
    averages = list(average.state_dict(keep_vars=True).values())
    values = list(model.state_dict(keep_vars=True).values())
    pairs = list(zip(averages, values, strict=True))
    floating = [(own_part(ours), own_part(theirs.detach())) for ours, theirs in pairs if ours.is_floating_point()]
    counters = [(ours, theirs) for ours, theirs in pairs if not ours.is_floating_point()]
    ours, theirs = ([pair[side] for pair in floating] for side in (0, 1))
    # torch has no multi-tensor kernel with a weight on the device: a weight for each tensor gives one kernel for each.
    torch._foreach_lerp_(ours, theirs, [share] * len(ours) if isinstance(share, Tensor) else share)
    if counters:
        torch._foreach_copy_([average for average, _ in counters], [value for _, value in counters])
