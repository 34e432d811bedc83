"""Gradient accumulation: a step's rows in parts, one after another, for less memory."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from dpt_ray.core.batch import ImageBatch

Batches = Mapping[str, ImageBatch]


def backward(
    objective: Callable[[Batches], tuple[Tensor, dict[str, Tensor]]], network: nn.Module, batches: Batches, parts: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of a step's loss to the network; return the loss and the metrics, detached.

    Args:
        objective: returns the mean loss and the metrics of some rows.
        network: as the objective calls it, wrapped or not; workers exchange gradients with the last part only.
        batches: source name -> this worker's rows.
        parts: equal parts to compute one after another.
    """
    if parts == 1:
        loss, metrics = objective(batches)
        loss.backward()
        return loss.detach(), metrics
    cut = {name: batch.parts(parts) for name, batch in batches.items()}
    losses, rows = [], []
    for number in range(parts):
        _exchange_gradients(network, number == parts - 1)
        loss, metrics = objective({name: pieces[number] for name, pieces in cut.items()})
        (loss / parts).backward()
        losses.append(loss.detach())
        rows.append(metrics)
    return torch.stack(losses).mean(), {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}


def _exchange_gradients(network: nn.Module, wanted: bool) -> None:
    if isinstance(network, nn.parallel.DistributedDataParallel):
        network.require_backward_grad_sync = wanted  # what its `no_sync` sets
    elif isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(wanted)
