"""Abort a training before a NaN or infinite loss or gradient updates the weights, and report its source."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dpt_ray.core.collective import mean_over_workers, num_workers, stack_from_workers


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient is NaN or infinite; the weights are those before the step."""


def step_flags(loss: Tensor, gradient_norm: Tensor, stop: float | Tensor) -> Tensor:
    """Return what the host must know of a step, computed on the device.

    Args:
        loss: this worker's loss, a scalar.
        gradient_norm: norm of the gradient averaged over workers, a scalar.
        stop: 1 if this worker wishes that training stops early; it shares the collective operation of the loss.

    Returns:
        float32 (2,): 1 if a worker's loss or the gradient is not finite, otherwise 0; and above 0 if a worker wishes to
        stop.
    """
    wish = stop if isinstance(stop, Tensor) else torch.full_like(loss, stop, dtype=torch.float32)
    mean_loss, stopping = mean_over_workers(torch.stack([loss.detach().float(), wish])).unbind(0)
    return torch.stack([1 - torch.isfinite(mean_loss + gradient_norm).float(), stopping])


class NonFiniteCheck:
    """Check that a step's loss and gradient are finite. The host can read the result later, without delay for the GPU.

    Args:
        values: this worker's loss and metrics, the terms of the loss among them; name -> scalar.
        flags: what `step_flags` returned.
        place: the step in words, for the error message.
    """

    def __init__(self, values: Mapping[str, Tensor], flags: Tensor, place: str = ""):
        self._values, self._place = values, place
        self._on_host, self._ready = flags, None
        if flags.device.type == "cuda":
            # An asynchronous copy and an event: the host waits for this point of the stream, not for all queued work.
            self._on_host = torch.empty_like(flags, device="cpu", pin_memory=True)
            self._on_host.copy_(flags, non_blocking=True)
            self._ready = torch.cuda.Event()
            self._ready.record()

    def require(self) -> bool:
        """Return whether any worker wishes to stop; raise if a worker's loss or the gradient is not finite.

        All workers return or raise the same.

        Raises:
            NonFiniteLossError: the message contains the non-finite values and their workers.
        """
        if self._ready is not None:
            self._ready.synchronize()
        if self._on_host[0] == 0:
            return bool(self._on_host[1] > 0)
        flags = torch.stack([torch.isfinite(value).float() for value in self._values.values()])
        finite = stack_from_workers(flags).cpu() > 0  # (workers, names)
        wrong = [name for name, column in zip(self._values, finite.T, strict=True) if not column.all()]
        if wrong:
            ranks = [str(rank + 1) for rank, row in enumerate(finite) if not row.all()]
            on = f" on worker {', '.join(ranks)} of {num_workers()}" if num_workers() > 1 else ""
            what = f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite{on}"
        else:
            what = "the gradient is not finite, though the loss is,"
        raise NonFiniteLossError(f"{what} {self._place}".rstrip())
