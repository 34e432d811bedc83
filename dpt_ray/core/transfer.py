"""The device of this process, and asynchronous copies to it."""

import torch
from torch import Tensor


def own_device() -> str:
    """Return the default device of this process: `cuda` if it has a GPU, otherwise `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return `values` on a device.

    A copy to a GPU goes through pinned memory. A copy from pageable memory would wait for all earlier work of the GPU,
    and a training step makes dozens of copies.
    """
    device = torch.device(device)
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
