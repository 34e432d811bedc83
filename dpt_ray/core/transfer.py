"""The device of this process, and asynchronous copies to it."""

from collections.abc import Callable, Mapping

import numpy as np
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


class CopyStream:
    """Copies batches to a GPU while it computes: from pinned memory, on a CUDA stream of their own.

    On other devices a copy is complete when it was started.

    Args:
        device: the device of the copies.
    """

    def __init__(self, device: torch.device | str):
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def start(self, columns: Mapping[str, np.ndarray]) -> Callable[[], dict[str, Tensor]]:
        """Start to copy arrays; return a function that returns the copies.

        The function lets the current stream wait for the copies, and not the host.
        """
        if self._stream is None:
            copies = {name: to_device(torch.from_numpy(values), self._device) for name, values in columns.items()}
            return lambda: copies
        with torch.cuda.stream(self._stream):
            copies = {name: to_device(torch.from_numpy(values), self._device) for name, values in columns.items()}
        done = self._stream.record_event()

        def arrived() -> dict[str, Tensor]:
            consumer = torch.cuda.current_stream(self._device)
            consumer.wait_event(done)
            for values in copies.values():  # their memory belongs to the stream of the copies
                values.record_stream(consumer)
            return copies

        return arrived
