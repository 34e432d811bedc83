"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class Ema:
    """Averaged copy of a network, initialised by copying it.

    Batch-norm statistics are averaged with the same decay as the weights, so that the averaged
    network is evaluated with statistics that match its weights.

    Args:
        model: the network that trains.
        decay: share of the old average that a step keeps, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model` by 1 - decay."""
        averages = list(self.model.state_dict(keep_vars=True).values())
        values = list(model.state_dict(keep_vars=True).values())
        pairs = list(zip(averages, values, strict=True))
        floating = [(average, value) for average, value in pairs if average.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floating], [v.detach() for _, v in floating], 1 - self.decay)
        for average, value in pairs:
            if not average.is_floating_point():  # counters
                average.copy_(value)
