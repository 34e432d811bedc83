"""Collective operations over all training workers. With a single worker they are the identity.

Workers hold the rows of whole lanes (`worker_lanes.py`). Where their number does not divide that of the lanes, some
hold more rows than others. A mean over all rows then weights each worker's mean by its rows.
"""

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dpt_ray.core.worker_lanes import unequal_lanes


def num_workers() -> int:
    """Return the number of training workers; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """Return the number of this worker, from 0; 0 without a process group."""
    return dist.get_rank() if num_workers() > 1 else 0


def relative_rows() -> float:
    """Return this worker's rows of a batch divided by the mean over workers; 1.0 if all hold equally many.

    Each worker multiplies the mean loss of its rows by it. DistributedDataParallel averages the gradients of all
    workers, so the result is the gradient of the mean over all rows.
    """
    counts = unequal_lanes(num_workers())
    return 1.0 if counts is None else counts[worker_rank()] * len(counts) / sum(counts)


def rows_of_workers(own_rows: int) -> list[int]:
    """Return the rows of each worker, given those of this one.

    Raises:
        ValueError: these are not the rows of a batch, which are as many from each lane.
    """
    counts = unequal_lanes(num_workers())
    if counts is None:
        return [own_rows] * num_workers()
    rows, rest = divmod(own_rows, counts[worker_rank()])
    if rest:
        raise ValueError(f"{own_rows} rows are not equally many from each of {counts[worker_rank()]} lanes")
    return [rows * count for count in counts]


@torch.no_grad()
def mean_over_workers(value: Tensor) -> Tensor:
    """Return the mean over the rows of all workers, given the mean over this worker's rows.

    All workers must call this with the same shape.
    """
    workers = num_workers()
    if workers == 1:
        return value
    weight = relative_rows()
    total = value.detach().clone() if weight == 1 else value.detach() * weight
    dist.all_reduce(total)
    return total / workers


def mean_of_workers(values: Tensor) -> Tensor:
    """Return the mean over the rows of W workers, (...), given each worker's mean in `values`, (W, ...)."""
    counts = unequal_lanes(len(values))
    return values.mean(0) if counts is None else _weighted_mean(values, counts)


def variance_of_workers(values: Tensor) -> Tensor:
    """Return the variance, (...), of W workers' means in `values`, (W, ...), each counted as often as it has rows."""
    counts = unequal_lanes(len(values))
    if counts is None:
        return values.var(0, correction=0)
    return _weighted_mean((values - _weighted_mean(values, counts)).square(), counts)


def _weighted_mean(values: Tensor, counts: tuple[int, ...]) -> Tensor:
    weights = _weights(counts, values.dtype, values.device)
    return (values * weights.view(-1, *[1] * (values.ndim - 1))).sum(0)


@cache
def _weights(counts: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return each worker's share of the rows, (W,), copied to a device once."""
    return (torch.tensor(counts, dtype=torch.float64) / sum(counts)).to(device, dtype)


@torch.no_grad()
def stack_from_workers(value: Tensor) -> Tensor:
    """Return the values of all workers, (W, ...), in the order of ranks; all have the same shape."""
    if num_workers() == 1:
        return value[None]
    value = value.contiguous()
    parts = [torch.empty_like(value) for _ in range(num_workers())]
    dist.all_gather(parts, value)
    return torch.stack(parts)


@torch.no_grad()
def gather_from_workers(value: Tensor) -> Tensor:
    """Return the rows of `value`, (B, ...), of all workers in the order of ranks; B is a worker's rows of a batch."""
    if num_workers() == 1:
        return value
    rows = rows_of_workers(len(value))
    sent = value.contiguous()
    if len(sent) < max(rows):  # gloo exchanges tensors of one shape; what is added here is left out below
        sent = torch.cat([sent, sent.new_zeros(max(rows) - len(sent), *sent.shape[1:])])
    parts = [torch.empty_like(sent) for _ in rows]
    dist.all_gather(parts, sent)
    return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])


def own_rows(gathered: Tensor, count: int) -> Tensor:
    """Return this worker's `count` rows of those of all workers, in the order of ranks."""
    start = sum(rows_of_workers(count)[: worker_rank()])
    return gathered[start : start + count]


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
        return own_rows(total, ctx.rows)


class _Stack(torch.autograd.Function):
    """`stack_from_workers` with a gradient: the sum over workers of the gradients of this worker's value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return stack_from_workers(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[worker_rank()]


def gather_differentiably(value: Tensor) -> Tensor:
    """Return the rows of `value`, (B, ...), of all workers; gradients flow back to every worker's rows.

    Let each worker compute the same loss L of all rows. The sum over workers of the gradients of L, each times
    `relative_rows`, is L's gradient times the number of workers. DistributedDataParallel divides it by this number, so
    the result is the gradient of L, as with a single worker.
    """
    gathered: Tensor = _Gather.apply(value) if num_workers() > 1 else value
    return gathered


def stack_differentiably(value: Tensor) -> Tensor:
    """Return the values of all workers, (W, ...); gradients flow back to each, see `gather_differentiably`."""
    stacked: Tensor = _Stack.apply(value) if num_workers() > 1 else value[None]
    return stacked


def whole(value: Tensor) -> Tensor:
    """Return the full tensor of a sharded one; all workers must call this for a sharded tensor."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def own_part(value: Tensor) -> Tensor:
    """Return this worker's shard of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value


def agree(wish: bool) -> bool:
    """Return whether `wish` is true on any worker, so that all workers decide alike."""
    if num_workers() == 1:
        return wish
    wishes = torch.tensor(float(wish), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(wishes)
    return bool(wishes > 0)


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
