"""The numbers that differ from step to step besides the rows: learning rate, shares of averages, a wish to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.training.optim import learning_rate
from dpt_ray.core.training.state import TrainState

Number = float | Tensor
"""A number of a step: a float, or a float32 scalar on the device of the training."""


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of one step.

    Attributes:
        learning_rate: the learning rate.
        ema_share: the share of the new weights in the average.
        power_shares: the shares of the new weights in the power averages; averages without one stay as they are.
        stop: 1 if this worker wishes that training stops early, otherwise 0.
    """

    learning_rate: Number
    ema_share: Number
    power_shares: tuple[Number, ...] = ()
    stop: Number = 0.0

    @classmethod
    def of_step(
        cls, state: TrainState, optimizer: OptimizerConfig, images: int, total_images: int, stop: bool
    ) -> "StepNumbers":
        """Return the numbers of the next step of a training, which has some images; the state is before the step."""
        before = state.images_seen
        return cls(
            learning_rate(optimizer, before, total_images),
            state.ema.share(before),
            tuple(average.share(before, before + images) for average in state.power_averages),
            float(stop),
        )

    def packed(self) -> list[float]:
        """Return all numbers in a fixed order; see `unpacked`."""
        return [float(value) for value in (self.learning_rate, self.ema_share, self.stop, *self.power_shares)]

    @classmethod
    def unpacked(cls, values: Tensor | Sequence[Number]) -> "StepNumbers":
        """Return the numbers of a tensor (K,) as views of it, so that a copy into the tensor changes them all."""
        rate, share, stop, *powers = values.unbind(0) if isinstance(values, Tensor) else values
        return cls(rate, share, tuple(powers), stop)

    def on_device(self, device: torch.device) -> "StepNumbers":
        """Return the numbers as scalars of one tensor on a device."""
        return self.unpacked(torch.tensor(self.packed(), dtype=torch.float32, device=device))
