"""The training loop: plain torch, with one worker or several."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import agree
from dpt_ray.core.training.compute import FLOAT32, Precision
from dpt_ray.core.training.graphed_step import GraphedStep
from dpt_ray.core.training.interval import Interval, Pace
from dpt_ray.core.training.nonfinite import NonFiniteCheck
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.training.step_numbers import StepNumbers
from dpt_ray.core.training.update import StepOutput, StepSettings, update

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


def train(
    state: TrainState,
    batches: Iterator[Mapping[str, ImageBatch]],
    schedule: Schedule,
    optimizer: OptimizerConfig,
    *,
    model: nn.Module | None = None,
    precision: Precision = FLOAT32,
    gradient_accumulation: int = 1,
    graphed: GraphedStep | None = None,
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
        precision, gradient_accumulation: see `train_step`.
        graphed: does the updates of this state and network with its own precision and accumulation, if given.
        on_log: called after each new row of `state.history`, on every worker.
        on_checkpoint: called when a checkpoint is due, on every worker.
        on_snapshot: called when the power averages are to be stored, on every worker.
        should_stop: called once a step. If it is true on any worker, all store a checkpoint of the same step and stop.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; no weight was updated by it, and nothing stored since.
    """
    network = (state.model if model is None else model).train()
    step_of = _step_of(state, network, optimizer.gradient_clip, precision, gradient_accumulation, graphed)
    unchecked: deque[NonFiniteCheck] = deque()
    checkpointed = time.monotonic()
    interval, state.interval = Interval.resumed(state.interval, state.device), {}
    for step in range(state.images_seen // schedule.images_per_step, schedule.num_steps):
        batch = interval.next_batch(batches)
        unchecked.append(_advance(state, step_of, batch, optimizer, schedule, interval, should_stop()))
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


_Step = Callable[[Mapping[str, ImageBatch], StepNumbers, str], StepOutput]
"""Does the update of a step, given its rows, its numbers, and the step in words."""


def _step_of(
    state: TrainState,
    network: nn.Module,
    gradient_clip: float | None,
    precision: Precision,
    gradient_accumulation: int,
    graphed: GraphedStep | None,
) -> _Step:
    """Return the function that does the update of each step."""
    if graphed is not None:
        return lambda batches, numbers, place: graphed(batches, numbers)
    settings = StepSettings(gradient_clip, precision, gradient_accumulation)
    return lambda batches, numbers, place: update(state, network, batches, settings, numbers, place)


def _advance(
    state: TrainState,
    step_of: _Step,
    batch: Mapping[str, ImageBatch],
    optimizer: OptimizerConfig,
    schedule: Schedule,
    interval: Interval,
    stop: bool,
) -> NonFiniteCheck:
    """Do the update of the next step, and note the metrics."""
    images = schedule.images_per_step
    before, after = state.images_seen, state.images_seen + images
    place = f"in step {after // images:,} (images {before + 1:,} to {after:,})"
    output = step_of(batch, StepNumbers.of_step(state, optimizer, images, schedule.total_images, stop), place)
    state.images_seen = after
    interval.metrics.append(output.metrics)
    return output.check(place)


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
    """Do one update at the learning rate that is set, without power averages; return the metrics on this worker.

    Args:
        state: changed in place.
        network: the network that the objective calls: `state.model`, wrapped or not.
        batches: source name -> this worker's rows.
        gradient_clip: the largest norm of the gradient; None sets no limit.
        precision: the number format of the network's computation.
        gradient_accumulation: number of shares of the rows that are computed one after another, with their gradients
            added up. The result is the same up to rounding if the objective's loss is a mean over rows.

    Raises:
        NonFiniteLossError: a worker's loss or the gradient is not finite; no weight was updated.
    """
    settings = StepSettings(gradient_clip, precision, gradient_accumulation)
    rate = state.optimizer.param_groups[0]["lr"]
    numbers = StepNumbers(rate, state.ema.share(state.images_seen))
    output = update(state, network, batches, settings, numbers)
    output.check().require()
    return output.metrics


def _passed(before: int, after: int, every: int) -> bool:
    return before // every != after // every
