"""Gradient accumulation: a worker computes the rows of a step in equal shares, one after another, to save memory."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch

Batches = Mapping[str, ImageBatch]


def backward(
    objective: Callable[[Batches], tuple[Tensor, dict[str, Tensor]]],
    network: nn.Module,
    batches: Batches,
    gradient_accumulation: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of a step's loss to the network; return the loss and the metrics, detached.

    Args:
        objective: returns the mean loss (scalar, differentiable) and the metrics of some rows.
        network: the network that the objective calls, wrapped for several workers or not.
        batches: source name -> this worker's rows.
        gradient_accumulation: number of equal shares of the rows that are computed one after another.

    Raises:
        ValueError: the rows' random streams cannot be divided into that many equal shares.
    """
    if gradient_accumulation == 1:
        loss, metrics = objective(batches)
        loss.backward()
        return loss.detach(), metrics
    shares = {name: batch.split(gradient_accumulation) for name, batch in batches.items()}
    losses, rows = [], []
    for number in range(gradient_accumulation):
        # Gradients add up locally, so workers need to exchange them once a step: in the last backward pass.
        _exchange_gradients(network, number == gradient_accumulation - 1)
        loss, metrics = objective({name: batch[number] for name, batch in shares.items()})
        (loss / gradient_accumulation).backward()
        losses.append(loss.detach())
        rows.append(metrics)
    return torch.stack(losses).mean(), {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}


def _exchange_gradients(network: nn.Module, wanted: bool) -> None:
    if isinstance(network, nn.parallel.DistributedDataParallel):
        network.require_backward_grad_sync = wanted  # `no_sync` sets the same attribute
        return
    from torch.distributed.fsdp import FSDPModule  # its import takes more than a second

    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(wanted)
