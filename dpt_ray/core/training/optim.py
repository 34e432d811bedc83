"""Optimizer and learning-rate schedule as the settings describe them."""

import math

import torch
from torch import nn

from dpt_ray.config.training_section import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters of `model`.

    Without `decay_all_parameters`, one-dimensional parameters (biases, normalisation) have no weight decay.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decayed if config.decay_all_parameters or parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(config: OptimizerConfig, images_seen: int, total_images: int) -> float:
    """Return the learning rate of the step after `images_seen` of `total_images` images.

    `cosine_7_16` is lr cos(7 pi k / 16 K) (reference: Sohn et al. 2020, FixMatch, section 2.4). `cosine` is
    lr (1 + cos(pi k / K)) / 2 (Loshchilov and Hutter 2017, without restarts). Warm-up is linear.
    """
    rate = config.learning_rate
    if config.schedule == "cosine_7_16":
        rate *= math.cos(7 * math.pi * images_seen / (16 * total_images))
    elif config.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * images_seen / total_images)) / 2
    if images_seen < config.warmup_images:
        rate *= images_seen / config.warmup_images
    return rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float | torch.Tensor) -> None:
    """Set the learning rate of every parameter group; a scalar on the device needs a fused optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate
