"""Reductions over all training workers that are the identity without a process group."""

import torch
import torch.distributed as dist
from torch import Tensor


def num_workers() -> int:
    """Number of training workers; 1 when no process group is running."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def mean_over_workers(value: Tensor) -> Tensor:
    """Mean of `value` over all workers; every worker must call it with the same shape."""
    workers = num_workers()
    if workers == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / workers


@torch.no_grad()
def gather_from_workers(value: Tensor) -> Tensor:
    """Rows of `value`, (B, ...), of all workers, one after another; workers hold equally many rows."""
    if num_workers() == 1:
        return value
    value = value.contiguous()
    parts = [torch.empty_like(value) for _ in range(num_workers())]
    dist.all_gather(parts, value)
    return torch.cat(parts)


def whole(value: Tensor) -> Tensor:
    """Return a tensor that workers may hold in parts; all of them must call this for those."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def own_part(value: Tensor) -> Tensor:
    """Return what this worker holds of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value


def agree(wish: bool) -> bool:
    """Whether any worker wishes it: workers whose clocks differ must still do the same."""
    device = "cuda" if num_workers() > 1 and dist.get_backend() == "nccl" else "cpu"
    return bool(mean_over_workers(torch.tensor(float(wish), device=device)) > 0)


def from_first_worker(text: str) -> str:
    """Return the text of the first worker; every worker must call this, and what the others give is not used."""
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
