"""Stop a training before a number that is none reaches its weights, and say where it came from."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dpt_ray.core.collective import gather_from_workers, mean_over_workers, num_workers


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient is not finite; the weights are those before the step."""


class FiniteCheck:
    """Whether a step's loss and gradient are finite, to be asked for as late as one likes.

    Args:
        loss: this worker's.
        gradient_norm: of the gradient averaged over workers.
        metrics: this worker's, the parts of the loss among them.
        place: of the step, for what is told.

    Attributes:
        found_inf: float32 scalar on the device, 1 if any worker's loss, or the gradient, is not finite, otherwise 0.
    """

    def __init__(self, loss: Tensor, gradient_norm: Tensor, metrics: Mapping[str, Tensor], place: str = ""):
        self._values, self._place = {"loss": loss, **metrics}, place
        self.found_inf = 1 - torch.isfinite(mean_over_workers(loss) + gradient_norm).float()
        self._told, self._ready = self.found_inf, None
        if self.found_inf.device.type == "cuda":
            # Known to the host when the device comes to here, not when it has done all that it is given until asked.
            self._told = torch.empty_like(self.found_inf, device="cpu", pin_memory=True)
            self._told.copy_(self.found_inf, non_blocking=True)
            self._ready = torch.cuda.Event()
            self._ready.record()

    def require(self) -> None:
        """Raise on every worker if any worker's loss, or the gradient, is not finite.

        What is wrong is sought only where something is.

        Raises:
            NonFiniteLossError: saying what is not finite, and on which workers.
        """
        if self._ready is not None:
            self._ready.synchronize()
        if self._told == 0:
            return
        flags = torch.stack([torch.isfinite(value).float() for value in self._values.values()])
        finite = gather_from_workers(flags[None]).cpu() > 0  # (workers, names)
        wrong = [name for name, column in zip(self._values, finite.T, strict=True) if not column.all()]
        if wrong:
            ranks = [str(rank + 1) for rank, row in enumerate(finite) if not row.all()]
            on = f" on worker {', '.join(ranks)} of {num_workers()}" if num_workers() > 1 else ""
            what = f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite{on}"
        else:
            what = "the gradient is not finite, though the loss is,"
        raise NonFiniteLossError(f"{what} {self._place}".rstrip())
