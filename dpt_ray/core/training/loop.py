"""The training loop: plain torch, with one worker or several."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpt_ray.config.schema import OptimizerConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import agree, whole
from dpt_ray.core.training.accumulation import backward
from dpt_ray.core.training.compute import FLOAT32, Precision, in_precision
from dpt_ray.core.training.interval import Interval, Pace
from dpt_ray.core.training.nonfinite import NonFiniteCheck
from dpt_ray.core.training.optim import learning_rate, set_learning_rate
from dpt_ray.core.training.state import TrainState

STEPS_AHEAD = 1
"""Number of steps that the host may launch beyond the last one that is known to be finite: a GPU then never idles."""


@dataclass(frozen=True)
class Schedule:
    """Where training ends, and when rows, checkpoints and snapshots are due; counts are images over all workers.

    Attributes:
        total_images: number of images after which training ends, rounded up to a whole step.
        images_per_step: number of images of all sources in a step.
        log_every: number of images between two history rows.
        checkpoint_seconds: least time between two checkpoints, in seconds. A checkpoint follows a history row, so that
            a resumed training has the history of an uninterrupted one. The last step has none.
        snapshots: number of times, at equal distances up to the end, that the state's power averages are stored.
    """

    total_images: int
    images_per_step: int
    log_every: int
    checkpoint_seconds: float
    snapshots: int = 0

    @property
    def num_steps(self) -> int:
        """Number of steps of the whole training."""
        return math.ceil(self.total_images / self.images_per_step)

    def row_due(self, images_seen: int) -> bool:
        """Whether the history gets a row after the step that ends with a number of images."""
        return _passed(images_seen - self.images_per_step, images_seen, self.log_every)

    def snapshot_due(self, step: int) -> bool:
        """Whether the power averages are stored after a step; steps are numbered from 0."""
        return (step + 1) * self.snapshots // self.num_steps > step * self.snapshots // self.num_steps


def snapshot_images(total_images: int, images_per_step: int, snapshots: int) -> set[int]:
    """Return after how many images a training stores its power averages; see `Schedule`."""
    schedule = Schedule(total_images, images_per_step, images_per_step, 0.0, snapshots)
    # The k-th of n snapshots follows the first step that completes k / n of all steps.
    ends = (math.ceil(k * schedule.num_steps / snapshots) for k in range(1, snapshots + 1))
    return {end * images_per_step for end in ends}


@dataclass(frozen=True)
class _StepSettings:
    """How a step computes its update; see `train_step`."""

    gradient_clip: float | None
    precision: Precision
    gradient_accumulation: int


def train(
    state: TrainState,
    batches: Iterator[Mapping[str, ImageBatch]],
    schedule: Schedule,
    optimizer: OptimizerConfig,
    *,
    model: nn.Module | None = None,
    precision: Precision = FLOAT32,
    gradient_accumulation: int = 1,
    on_log: Callable[[TrainState, Pace], None] = lambda state, pace: None,
    on_checkpoint: Callable[[TrainState], None] = lambda state: None,
    on_snapshot: Callable[[TrainState], None] = lambda state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train `state` from its current step to the end of the schedule; return whether the end was reached.

    Args:
        state: changed in place.
        batches: this worker's batches; the first one belongs to step `images_seen / images_per_step`.
        schedule: where training ends, and when history rows, checkpoints and snapshots are due.
        optimizer: the settings of the learning rate and of gradient clipping.
        model: `state.model` wrapped by DistributedDataParallel, for the objective to call; None if it is not wrapped.
        precision: the number format of the network's computation.
        gradient_accumulation: see `train_step`.
        on_log: called after each new row of `state.history`, on every worker.
        on_checkpoint: called when a checkpoint is due, on every worker.
        on_snapshot: called when the power averages are to be stored, on every worker.
        should_stop: called once a step. If it is true on any worker, all store a checkpoint of the same step and stop.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; no weight was updated by it, and nothing stored since.
    """
    network = (state.model if model is None else model).train()
    computing = _StepSettings(optimizer.gradient_clip, precision, gradient_accumulation)
    unchecked: deque[NonFiniteCheck] = deque()
    checkpointed = time.monotonic()
    interval, state.interval = Interval.resumed(state.interval, state.device), {}
    for step in range(state.images_seen // schedule.images_per_step, schedule.num_steps):
        set_learning_rate(state.optimizer, learning_rate(optimizer, state.images_seen, schedule.total_images))
        batch = interval.next_batch(batches)
        unchecked.append(_advance(state, network, batch, computing, schedule.images_per_step, interval, should_stop()))
        last, snapshot = step + 1 == schedule.num_steps, schedule.snapshot_due(step)
        row = last or schedule.row_due(state.images_seen)
        stop = _require(unchecked, 0 if row or snapshot else STEPS_AHEAD) and not last
        if snapshot:
            on_snapshot(state)
        if row:
            state.history.append(interval.row(state.images_seen))
            on_log(state, interval.pace(schedule.images_per_step))
        if stop:
            _require(unchecked, 0)
            state.interval = {} if row else interval.save()
            on_checkpoint(state)
            return False
        if row:
            if not last and agree(time.monotonic() - checkpointed >= schedule.checkpoint_seconds):
                on_checkpoint(state)
                checkpointed = time.monotonic()
            interval = Interval()
    return True


def _advance(
    state: TrainState,
    network: nn.Module,
    batch: Mapping[str, ImageBatch],
    computing: _StepSettings,
    images: int,
    interval: Interval,
    stop: bool,
) -> NonFiniteCheck:
    """Do the update of a step of a number of images, move the averages of the weights, and note the metrics."""
    before, after = state.images_seen, state.images_seen + images
    place = f"in step {after // images:,} (images {before + 1:,} to {after:,})"
    metrics, check = _update(state, network, batch, computing, place, stop)
    state.images_seen = after
    for average in state.power_averages:
        average.update(state.model, before, after)
    interval.metrics.append(metrics)
    return check


def _require(unchecked: deque[NonFiniteCheck], left: int) -> bool:
    """Require that all steps but the newest `left` are finite; return whether one of them says to stop."""
    stops = [unchecked.popleft().require() for _ in range(len(unchecked) - left)]
    return any(stops)


def train_step(
    state: TrainState,
    network: nn.Module,
    batches: Mapping[str, ImageBatch],
    gradient_clip: float | None,
    precision: Precision = FLOAT32,
    gradient_accumulation: int = 1,
) -> dict[str, Tensor]:
    """Do one update and return the step's metrics on this worker.

    Args:
        state: changed in place.
        network: the network that the objective calls: `state.model`, wrapped or not.
        batches: source name -> this worker's rows.
        gradient_clip: the largest norm of the gradient; None sets no limit.
        precision: the number format of the network's computation.
        gradient_accumulation: number of equal shares of the rows that are computed one after another, with their
            gradients added up. The result is the same up to rounding if the objective's loss is a mean over rows.

    Raises:
        NonFiniteLossError: a worker's loss or the gradient is not finite; no weight was updated.
    """
    computing = _StepSettings(gradient_clip, precision, gradient_accumulation)
    metrics, check = _update(state, network, batches, computing)
    check.require()
    return metrics


def _update(
    state: TrainState,
    network: nn.Module,
    batches: Mapping[str, ImageBatch],
    settings: _StepSettings,
    place: str = "",
    stop: bool = False,
) -> tuple[dict[str, Tensor], NonFiniteCheck]:
    """Do one update; the caller calls `require` of the returned check.

    An optimizer that reads `found_inf` on the device skips a non-finite update by itself, so the host need not wait.
    """
    state.optimizer.zero_grad(set_to_none=True)
    called = in_precision(network, settings.precision, state.device)
    loss, metrics = backward(
        lambda rows: state.objective(called, rows), network, batches, settings.gradient_accumulation
    )
    # All workers hold the same gradient by now, or shards of it, so they compute the same norm.
    norm = nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    check = NonFiniteCheck(loss, whole(norm), metrics, place, stop)
    if state.heeds_found_inf:
        before = getattr(state.optimizer, "found_inf", check.found_inf)  # later steps are skipped too
        state.optimizer.found_inf = torch.maximum(before, check.found_inf)  # type: ignore[attr-defined]
    else:
        check.require()
    if settings.gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(state.model.parameters(), settings.gradient_clip, norm)
    state.optimizer.step()
    state.ema.update(state.model, state.images_seen)
    return metrics, check


def _passed(before: int, after: int, every: int) -> bool:
    return before // every != after // every
