"""Collective operations over all training workers. With a single worker they are the identity."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_workers() -> int:
    """Return the number of training workers; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """Return the number of this worker, from 0; 0 without a process group."""
    return dist.get_rank() if num_workers() > 1 else 0


@torch.no_grad()
def mean_over_workers(value: Tensor) -> Tensor:
    """Return the mean of `value` over all workers; all of them must call this with the same shape."""
    workers = num_workers()
    if workers == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / workers


@torch.no_grad()
def gather_from_workers(value: Tensor) -> Tensor:
    """Return the rows of `value`, (B, ...), of all workers in the order of ranks; all workers hold B rows."""
    if num_workers() == 1:
        return value
    value = value.contiguous()
    parts = [torch.empty_like(value) for _ in range(num_workers())]
    dist.all_gather(parts, value)
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """`gather_from_workers` with a gradient: the sum over workers of the gradients of this worker's rows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.rows = len(value)
        return gather_from_workers(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[worker_rank() * ctx.rows :][: ctx.rows]


def gather_differentiably(value: Tensor) -> Tensor:
    """Return the rows of `value`, (B, ...), of all workers; gradients flow back to every worker's rows.

    Let each worker compute the same loss L of all rows. DistributedDataParallel averages the workers' gradients, which
    are the sum over workers here, so the result is the gradient of L, as with a single worker.
    """
    gathered: Tensor = _Gather.apply(value) if num_workers() > 1 else value
    return gathered


def whole(value: Tensor) -> Tensor:
    """Return the full tensor of a sharded one; all workers must call this for a sharded tensor."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def own_part(value: Tensor) -> Tensor:
    """Return this worker's shard of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value


def agree(wish: bool) -> bool:
    """Return whether `wish` is true on any worker, so that all workers decide alike."""
    device = "cuda" if num_workers() > 1 and dist.get_backend() == "nccl" else "cpu"
    return bool(mean_over_workers(torch.tensor(float(wish), device=device)) > 0)


def from_first_worker(text: str) -> str:
    """Return the first worker's text; every worker must call this, and the other texts are ignored."""
    if num_workers() == 1:
        return text
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    length = torch.tensor(len(content), device=device)
    dist.broadcast(length, src=0)
    if dist.get_rank() != 0:
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(content, src=0)
    return bytes(content.tolist()).decode()
