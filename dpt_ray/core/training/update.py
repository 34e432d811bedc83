"""One update of a training: gradient, check, clipping, optimizer and averages.

With an optimizer that heeds `found_inf` and numbers on the device, no value goes to the host, so that the update can be
captured as one CUDA graph (`graphed_step.py`). Otherwise the host reads the check before the optimizer's step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import whole
from dpt_ray.core.training.accumulation import backward
from dpt_ray.core.training.compute import FLOAT32, Precision, in_precision
from dpt_ray.core.training.nonfinite import NonFiniteCheck, step_flags
from dpt_ray.core.training.optim import set_learning_rate
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers


@dataclass(frozen=True)
class StepSettings:
    """How a step computes its update.

    Attributes:
        gradient_clip: the largest norm of the gradient; None sets no limit.
        precision: the number format of the network's computation.
        gradient_accumulation: number of shares of the rows that are computed one after another.
    """

    gradient_clip: float | None
    precision: Precision = FLOAT32
    gradient_accumulation: int = 1


@dataclass(frozen=True)
class StepOutput:
    """What the host may read of a step.

    Attributes:
        loss: this worker's loss, a scalar.
        metrics: this worker's metrics; name -> scalar.
        flags: float32 (2,), see `step_flags`.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    flags: Tensor

    def check(self, place: str = "") -> NonFiniteCheck:
        """Return the check of this step; `place` is the step in words, for the error message."""
        return NonFiniteCheck({"loss": self.loss, **self.metrics}, self.flags, place)


def update(
    state: TrainState,
    network: nn.Module,
    batches: Mapping[str, ImageBatch],
    settings: StepSettings,
    numbers: StepNumbers,
    place: str = "",
) -> StepOutput:
    """Do one update; a non-finite one moves no weight.

    An optimizer that reads `found_inf` on the device skips a non-finite update by itself, so the host need not wait.
    The caller then calls `require` of the output's check.

    Args:
        state: changed in place, except for `images_seen`.
        network: the network that the objective calls: `state.model`, wrapped or not.
        batches: source name -> this worker's rows.
        settings: how the update is computed.
        numbers: the numbers of the step; scalars on the device need a fused optimizer.
        place: the step in words, for the error message.

    Raises:
        NonFiniteLossError: a worker's loss or the gradient is not finite, and the optimizer does not heed it by itself.
    """
    state.optimizer.zero_grad(set_to_none=True)
    set_learning_rate(state.optimizer, numbers.learning_rate)
    called = in_precision(network, settings.precision, state.device)
    loss, metrics = backward(
        lambda rows: state.objective(called, rows), network, batches, settings.gradient_accumulation
    )
    # All workers hold the same gradient by now, or shards of it, so they compute the same norm.
    norm = nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    output = StepOutput(loss, metrics, step_flags(loss, whole(norm), numbers.stop))
    if state.heeds_found_inf:
        _note_found_inf(state.optimizer, output.flags[0])
    else:
        output.check(place).require()
    if settings.gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(state.model.parameters(), settings.gradient_clip, norm)
    state.optimizer.step()
    state.ema.move(state.model, numbers.ema_share)
    for average, share in zip(state.power_averages, numbers.power_shares, strict=False):
        average.move(state.model, share)
    return output


def _note_found_inf(optimizer: torch.optim.Optimizer, found_inf: Tensor) -> None:
    """Let the optimizer skip this step and all later ones if a value was not finite; in place, as a graph needs it."""
    known = getattr(optimizer, "found_inf", None)
    if known is None:
        known = torch.zeros((), dtype=torch.float32, device=found_inf.device)
        optimizer.found_inf = known  # type: ignore[attr-defined]
    torch.maximum(known, found_inf, out=known)
