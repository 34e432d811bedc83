"""The device that computes, and the way to it from the host, without waiting."""

import torch
from torch import Tensor


def own_device() -> str:
    """Return where this process computes if nobody says otherwise: on its GPU, where it has one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Return `values` on a device.

    To a GPU they go by way of page-locked memory: an ordinary copy would wait until the GPU has done all that it
    was given before, and a training step makes dozens of such copies.
    """
    device = torch.device(device)
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
