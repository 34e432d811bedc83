"""Stop a training before a number that is none reaches its weights, and say where it came from."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dpt_ray.core.training.collective import gather_from_workers, mean_over_workers, num_workers


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient is not finite; the weights are those before the step."""


def check_finite(loss: Tensor, gradient_norm: Tensor, metrics: Mapping[str, Tensor]) -> None:
    """Raise on every worker if any worker's loss, or the gradient, is not finite.

    Waits for the device once in the usual case; what is wrong is sought only where something is.

    Args:
        loss: this worker's.
        gradient_norm: of the gradient averaged over workers.
        metrics: this worker's, the parts of the loss among them.

    Raises:
        NonFiniteLossError: saying what is not finite, and on which workers.
    """
    if torch.isfinite(mean_over_workers(loss) + gradient_norm):
        return
    values = {"loss": loss, **metrics}
    flags = torch.stack([torch.isfinite(value).float() for value in values.values()])
    finite = gather_from_workers(flags[None]).cpu() > 0  # (workers, names)
    wrong = [name for name, column in zip(values, finite.T, strict=True) if not column.all()]
    if not wrong:
        raise NonFiniteLossError("the gradient is not finite, though the loss is,")
    ranks = [str(rank + 1) for rank, row in enumerate(finite) if not row.all()]
    on = f" on worker {', '.join(ranks)} of {num_workers()}" if num_workers() > 1 else ""
    raise NonFiniteLossError(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite{on}")
