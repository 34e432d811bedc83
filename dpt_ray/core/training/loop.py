"""The training loop: ordinary torch, with or without other workers."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dpt_ray.config.schema import OptimizerConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import agree, mean_over_workers, whole
from dpt_ray.core.training.accumulation import backward
from dpt_ray.core.training.compute import FLOAT32, Precision, in_precision
from dpt_ray.core.training.nonfinite import FiniteCheck
from dpt_ray.core.training.optim import learning_rate, set_learning_rate
from dpt_ray.core.training.state import TrainState

STEPS_AHEAD = 1
"""Steps that the host may be ahead of the last one known to be finite, so that a GPU need not wait for its work."""


@dataclass(frozen=True)
class Schedule:
    """How far training goes and what happens on the way; counts are images over all workers.

    Attributes:
        total_images: where training ends (rounded up to a whole step).
        images_per_step: images of all sources in a step.
        log_every: images between two history rows.
        checkpoint_seconds: time between two checkpoints. They are made with a history row only, so that a
            resumed training has the history of an undisturbed one; the end has none.
        snapshots: how often, at equal distances up to the end, the state's further averages are stored.
    """

    total_images: int
    images_per_step: int
    log_every: int
    checkpoint_seconds: float
    snapshots: int = 0

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return math.ceil(self.total_images / self.images_per_step)

    def snapshot_due(self, step: int) -> bool:
        """Whether averages are stored after a step, numbered from 0."""
        return (step + 1) * self.snapshots // self.num_steps > step * self.snapshots // self.num_steps


@dataclass(frozen=True)
class Pace:
    """How the steps since the last history row went, by this worker's clock; checkpoints are not in it.

    Attributes:
        images_per_second: over all workers.
        seconds: time of the steps.
        data_wait_seconds: part of it in which this worker waited for its batches.
    """

    images_per_second: float
    seconds: float
    data_wait_seconds: float


@dataclass
class _Interval:
    """The steps since the last history row."""

    began: float
    waited: float = 0.0
    metrics: list[dict[str, Tensor]] = field(default_factory=list)

    def next_batch(self, batches: Iterator[Mapping[str, ImageBatch]]) -> Mapping[str, ImageBatch]:
        """Return the next batch, and count the time that it took to come."""
        asked = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - asked
        return batch

    def pace(self, images_per_step: int) -> Pace:
        """Return how these steps went until now."""
        seconds = time.monotonic() - self.began
        return Pace(len(self.metrics) * images_per_step / seconds, seconds, self.waited)


def train(
    state: TrainState,
    batches: Iterator[Mapping[str, ImageBatch]],
    schedule: Schedule,
    optimizer_config: OptimizerConfig,
    *,
    model: nn.Module | None = None,
    precision: Precision = FLOAT32,
    parts: int = 1,
    on_log: Callable[[TrainState, Pace], None] = lambda state, pace: None,
    on_checkpoint: Callable[[TrainState], None] = lambda state: None,
    on_snapshot: Callable[[TrainState], None] = lambda state: None,
) -> None:
    """Train `state` from where it is to the end of the schedule.

    Args:
        state: changed in place.
        batches: this worker's batches, the first one that of step `images_seen / images_per_step`.
        schedule: how far to go.
        optimizer_config: gives the learning rate and gradient clipping.
        model: `state.model` as the objective shall call it (wrapped by DistributedDataParallel); itself if None.
        precision: what the network computes in.
        parts: see `train_step`.
        on_log: called after each new row of `state.history`, on every worker.
        on_checkpoint: called when a checkpoint is due, on every worker.
        on_snapshot: called when the further averages are to be stored, on every worker.

    Raises:
        NonFiniteLossError: the optimizer did not move in that step, and nothing was stored since; it says which step
            and what.
    """
    network = state.model if model is None else model
    network.train()
    unchecked: deque[FiniteCheck] = deque()
    checkpointed = time.monotonic()
    interval = _Interval(checkpointed)
    for step in range(state.images_seen // schedule.images_per_step, schedule.num_steps):
        set_learning_rate(state.optimizer, learning_rate(optimizer_config, state.images_seen, schedule.total_images))
        before, after = state.images_seen, state.images_seen + schedule.images_per_step
        batch = interval.next_batch(batches)
        place = f"in step {step + 1:,} (images {before + 1:,} to {after:,})"
        metrics, check = _update(state, network, batch, optimizer_config.gradient_clip, precision, parts, place)
        interval.metrics.append(metrics)
        unchecked.append(check)
        state.images_seen = after
        for average in state.power_averages:
            average.update(state.model, before, state.images_seen)
        last, snapshot = step + 1 == schedule.num_steps, schedule.snapshot_due(step)
        row = last or _passed(before, state.images_seen, schedule.log_every)
        while len(unchecked) > (0 if row or snapshot else STEPS_AHEAD):
            unchecked.popleft().require()
        if snapshot:
            on_snapshot(state)
        if row:
            state.history.append(_history_row(state.images_seen, interval.metrics))
            on_log(state, interval.pace(schedule.images_per_step))
            if not last and agree(time.monotonic() - checkpointed >= schedule.checkpoint_seconds):
                on_checkpoint(state)
                checkpointed = time.monotonic()
            interval = _Interval(time.monotonic())


def train_step(
    state: TrainState,
    network: nn.Module,
    batches: Mapping[str, ImageBatch],
    gradient_clip: float | None,
    precision: Precision = FLOAT32,
    parts: int = 1,
) -> dict[str, Tensor]:
    """Do one update and return the step's metrics, of this worker.

    Args:
        state: changed in place.
        network: `state.model` as the objective shall call it.
        batches: source name -> this worker's rows.
        gradient_clip: largest norm of the gradient; no limit if None.
        precision: what the network computes in.
        parts: compute the rows in so many parts, one after another, and add up gradients. For objectives whose loss
            is a mean over rows alone, and then the same up to rounding.

    Raises:
        NonFiniteLossError: some worker's loss, or the gradient, is not finite; no weight was updated.
    """
    metrics, check = _update(state, network, batches, gradient_clip, precision, parts)
    check.require()
    return metrics


def _update(
    state: TrainState,
    network: nn.Module,
    batches: Mapping[str, ImageBatch],
    gradient_clip: float | None,
    precision: Precision,
    parts: int,
    place: str = "",
) -> tuple[dict[str, Tensor], FiniteCheck]:
    """See `train_step`; where the optimizer heeds the check on the device, it is still to be asked for."""
    state.optimizer.zero_grad(set_to_none=True)
    called = in_precision(network, precision, state.device)
    loss, metrics = backward(lambda part: state.objective(called, part), network, batches, parts)
    # Workers hold the same gradient by now, or parts of it, and so the same norm.
    norm = nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    check = FiniteCheck(loss, whole(norm), metrics, place)
    if state.heeds_found_inf:
        before = getattr(state.optimizer, "found_inf", check.found_inf)  # nor in the steps after it
        state.optimizer.found_inf = torch.maximum(before, check.found_inf)  # type: ignore[attr-defined]
    else:
        check.require()
    if gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(state.model.parameters(), gradient_clip, norm)
    state.optimizer.step()
    state.ema.update(state.model, state.images_seen)
    return metrics, check


def _passed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _history_row(images_seen: int, interval: list[dict[str, Tensor]]) -> dict[str, float]:
    names = list(interval[0])
    means = torch.stack([torch.stack([metrics[name].detach().float() for name in names]) for metrics in interval]).mean(
        0
    )
    return {"images": images_seen, **dict(zip(names, mean_over_workers(means).tolist(), strict=True))}
