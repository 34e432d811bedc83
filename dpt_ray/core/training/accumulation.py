"""The backward passes of a step, weighted so that the exchanged gradient is that of the mean over all workers' rows.

With gradient accumulation a worker computes its rows of a step in shares, one after another, to save memory.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import relative_rows

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
        gradient_accumulation: number of shares of the rows that are computed one after another. Their lengths differ by
            at most the rows of a lane.

    Raises:
        ValueError: the rows have fewer random streams than there are shares.
    """
    if gradient_accumulation == 1:
        loss, metrics = objective(batches)
        _weighted(loss, relative_rows()).backward()
        return loss.detach(), metrics
    shares = {name: batch.split(gradient_accumulation) for name, batch in batches.items()}
    source, whole = next(iter(batches.items()))  # all sources are divided alike
    parts = [len(share) / len(whole) for share in shares[source]]
    losses, rows = [], []
    for number, part in enumerate(parts):
        # Gradients add up locally, so workers need to exchange them once a step: in the last backward pass.
        _exchange_gradients(network, number == gradient_accumulation - 1)
        loss, metrics = objective({name: batch[number] for name, batch in shares.items()})
        _weighted(loss, relative_rows() * part).backward()
        losses.append(loss.detach())
        rows.append(metrics)
    return _mean(losses, parts), {name: _mean([row[name] for row in rows], parts) for name in rows[0]}


def _weighted(loss: Tensor, weight: float) -> Tensor:
    return loss if weight == 1 else loss * weight


def _mean(values: list[Tensor], parts: list[float]) -> Tensor:
    """Return the mean over rows, given the means of shares and their parts of the rows."""
    if min(parts) == max(parts):
        return torch.stack(values).mean()
    return torch.stack([value * part for value, part in zip(values, parts, strict=True)]).sum()


def _exchange_gradients(network: nn.Module, wanted: bool) -> None:
    if isinstance(network, nn.parallel.DistributedDataParallel):
        network.require_backward_grad_sync = wanted  # `no_sync` sets the same attribute
        return
    from torch.distributed.fsdp import FSDPModule  # its import takes more than a second

    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(wanted)
