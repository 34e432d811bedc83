"""The steps since the last row of a training's history, which a checkpoint between two rows holds, too."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import (
    mean_of_workers,
    mean_over_workers,
    num_workers,
    stack_from_workers,
    worker_rank,
)


@dataclass(frozen=True)
class Pace:
    """Speed of the steps since the last history row, by this worker's clock and without checkpoints.

    Attributes:
        images_per_second: throughput of all workers together.
        seconds: duration of the steps.
        data_wait_seconds: the part of `seconds` in which this worker waited for its batches.
    """

    images_per_second: float
    seconds: float
    data_wait_seconds: float


@dataclass
class Interval:
    """The steps since the last history row.

    Attributes:
        began: time at which the first step of this process began.
        metrics: metrics of each step on this worker, scalars.
        waited: time for which this worker waited for batches, s.
        earlier: number of steps in `metrics` that were done before the training was resumed.
    """

    began: float = field(default_factory=time.monotonic)
    metrics: list[dict[str, Tensor]] = field(default_factory=list)
    waited: float = 0.0
    earlier: int = 0

    @classmethod
    def resumed(cls, saved: Mapping[str, Tensor], device: torch.device) -> "Interval":
        """Return an interval with the steps of a checkpoint.

        Args:
            saved: what `save` returned.
            device: of the training.
        """
        columns = {name: _own_row(values).to(device) for name, values in saved.items()}
        steps = min((len(column) for column in columns.values()), default=0)
        return cls(metrics=[{name: columns[name][step] for name in columns} for step in range(steps)], earlier=steps)

    def save(self) -> dict[str, Tensor]:
        """Return the metrics of the steps of all workers: name -> (workers, steps), float32, in the host's memory.

        All workers must call this together. It is empty if there are no steps.
        """
        if not self.metrics:
            return {}
        names = list(self.metrics[-1])
        everywhere = stack_from_workers(self._table(names)).cpu()  # (workers, steps, names)
        return {name: everywhere[:, :, column].contiguous() for column, name in enumerate(names)}

    def next_batch(self, batches: Iterator[Mapping[str, ImageBatch]]) -> Mapping[str, ImageBatch]:
        """Return the next batch, and add the time spent waiting for it."""
        began = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - began
        return batch

    def pace(self, images_per_step: int) -> Pace:
        """Return the speed of the steps of this process until now."""
        seconds = time.monotonic() - self.began
        return Pace((len(self.metrics) - self.earlier) * images_per_step / seconds, seconds, self.waited)

    def row(self, images_seen: int) -> dict[str, float]:
        """Return the row of the history: the mean of each metric over steps and rows. All workers must call this."""
        names = list(self.metrics[-1])
        means = self._table(names).mean(0)
        return {"images": images_seen, **dict(zip(names, mean_over_workers(means).tolist(), strict=True))}

    def _table(self, names: list[str]) -> Tensor:
        """Return the metrics as (steps, names), float32."""
        rows = [torch.stack([metrics[name].detach().float() for name in names]) for metrics in self.metrics]
        return torch.stack(rows)


def _own_row(values: Tensor) -> Tensor:
    """Return this worker's row of (workers, steps); the mean row if another number of workers saved it."""
    return values[worker_rank()] if len(values) == num_workers() else mean_of_workers(values)
