"""The batch size of inference: the largest that fits the memory of a GPU, or one that suits a CPU's caches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FIRST, MOST = 16, 4096
"""The first batch that is tried, and the largest: beyond it, a GPU computes no faster."""
PREDICTED_ON_CPU, ENCODED_ON_CPU, SAMPLED_ON_CPU = 256, 16, 100
"""Batches on a CPU: of a classifier's predictions, of a frozen encoder or an autoencoder, of a generator's sampling."""
_SHARE = 0.5
"""Share of the GPU's free memory that a batch may take. The rest is for fragmentation and other processes."""


def batch_size(given: int | None, on_cpu: int, run: Callable[[int], object], device: torch.device | str) -> int:
    """Return the number of images of a batch.

    Args:
        given: the number that the user gives; None to find it.
        on_cpu: the number on a CPU, if none is given.
        run: computes a batch of so many images on the device.
        device: the device.
    """
    if given is not None:
        return given
    device = torch.device(device)
    if device.type != "cuda":
        return on_cpu
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return largest_fitting(lambda batch: _peak_bytes(run, batch, device), _SHARE * (free + unused))


def image_batch_size(
    given: int | None,
    on_cpu: int,
    network: Callable[[Tensor], object],
    shape: Sequence[int],
    device: torch.device | str,
) -> int:
    """As `batch_size`, for a function of uint8 images (B, *shape) on the CPU, which it copies to the device."""
    return batch_size(given, on_cpu, lambda batch: network(torch.zeros(batch, *shape, dtype=torch.uint8)), device)


def largest_fitting(peak_bytes: Callable[[int], float], budget: float) -> int:
    """Return the largest power of two, at most `MOST`, whose batch takes at most `budget` bytes; at least 1.

    Args:
        peak_bytes: returns the memory in bytes that a batch of so many images takes, infinite for too many. Twice the
            images take at most twice the memory, so no batch is tried that may exceed the budget by more than the
            first one.
        budget: memory in bytes.
    """
    batch = FIRST
    used = peak_bytes(batch)
    while used > budget and batch > 1:
        batch //= 2
        used = peak_bytes(batch)
    while 2 * used <= budget and 2 * batch <= MOST:
        used = peak_bytes(2 * batch)
        if used > budget:
            break
        batch *= 2
    return batch


@torch.no_grad()  # not inference mode, in which guidance by a classifier could take no gradient
def _peak_bytes(run: Callable[[int], object], batch: int, device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        with torch.compiler.set_stance("force_eager"):  # compiling for each size that is tried would take minutes
            run(batch)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return float("inf")
    return torch.cuda.max_memory_allocated(device) - before
