"""The project's Prometheus metrics, exported by Ray on each node's metrics port with the prefix `ray_`.

Only the driver exports, from what workers write to the job's board. So a step has one series of each metric for any
number of workers, and a training step only reads the clock twice. Names follow Prometheus's conventions: base units,
`_total` for counters, `_ratio` for shares of 1.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock, Thread
from typing import Any, Literal

EXPORT_SECONDS = 1.0
"""Least time between two exports of a step; Prometheus scrapes less often."""

TAGS = ("run", "step")


@dataclass(frozen=True)
class Metric:
    """A metric, without Ray's prefix."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    tags: tuple[str, ...] = TAGS


IMAGES = Metric("dpt_images_total", "counter", "Images that a step has trained on, read or made; its rate is images/s.")
SHARDS = Metric("dpt_shards_total", "counter", "Shards (or files of pseudo images) that a step has finished.")
PROGRESS = Metric("dpt_progress_ratio", "gauge", "Share of a step's work that is done.")
LOSS = Metric("dpt_loss", "gauge", "Mean training loss over the newest interval of the loss curve.")
TRAINING = Metric(
    "dpt_training_seconds_total", "counter", "Time in training steps, waiting for data included, checkpoints not."
)
DATA_WAIT = Metric(
    "dpt_data_wait_seconds_total", "counter", "Part of it in which workers waited for data, mean over workers."
)
CHECKPOINTS = Metric("dpt_checkpoints_total", "counter", "Checkpoints of trainings.")
CHECKPOINT = Metric(
    "dpt_checkpoint_seconds_total",
    "counter",
    "Time for which training stood still for checkpoints; their upload goes on beside it.",
)

CHECKPOINT_TIME = Metric(
    "dpt_checkpoint_timestamp_seconds",
    "gauge",
    "Unix time of a training's newest stored checkpoint, or of its start; 0 after its end.",
)
WORKERS = Metric("dpt_workers", "gauge", "Workers with which a training runs; 0 after its end.")
EVENTS = Metric("dpt_events_total", "counter", "Events that a person on call cares about.", (*TAGS, "event"))
EVENT_TIME = Metric("dpt_event_timestamp_seconds", "gauge", "Unix time of the newest of them.", (*TAGS, "event"))

METRICS = (
    IMAGES,
    SHARDS,
    PROGRESS,
    LOSS,
    TRAINING,
    DATA_WAIT,
    CHECKPOINTS,
    CHECKPOINT,
    CHECKPOINT_TIME,
    WORKERS,
    EVENTS,
    EVENT_TIME,
)

Write = Callable[[Metric, float, dict[str, str]], None]
"""Adds to a counter or sets a gauge, given the metric, the value and the tags."""


class StepMetrics:
    """Exports one step's metrics, at most once in `EXPORT_SECONDS`, and always at the step's end.

    Args:
        run: the run's name.
        step: the step's title.
        write: exports a value; through Ray by default.
    """

    def __init__(self, run: str, step: str, write: Write | None = None):
        self._tags = {"run": run, "step": step}
        self._write = write or write_to_ray
        self._exported: dict[Metric, float] = {}
        self._written = float("-inf")

    def set(self, metric: Metric, value: float) -> None:
        """Export a gauge at once."""
        self._write(metric, value, self._tags)

    def resume(self, images: int) -> None:
        """Set the number of images that were finished before, which are not counted again."""
        self._exported[IMAGES] = images

    def update(
        self, share: float, totals: Mapping[Metric, float], gauges: Mapping[Metric, float], *, last: bool = False
    ) -> None:
        """Export the state of a step.

        Args:
            share: finished share of the work, in [0, 1].
            totals: present values of counters. A counter that falls was reset by the restart of a worker.
            gauges: values that replace the last ones.
            last: whether the step ends.
        """
        now = time.monotonic()
        if now - self._written < EXPORT_SECONDS and not last:
            return
        self._written = now
        for metric, value in totals.items():
            known = self._exported.get(metric, 0.0)
            self._exported[metric] = value
            if (risen := value - known if value >= known else value) > 0:
                self._write(metric, risen, self._tags)
        for metric, value in {PROGRESS: min(1.0, share), **gauges}.items():
            self._write(metric, value, self._tags)


def write_to_ray(metric: Metric, value: float, tags: dict[str, str]) -> None:
    """Export through Ray, if this process is connected to one."""
    import ray

    if ray.is_initialized():
        if metric.kind == "counter":
            _exporter(metric).inc(value, tags)
        else:
            _gauges.set(metric, value, tags)


class KeptGauges:
    """Sets gauges, and sets them again as long as this process is connected to Ray.

    Ray drops a gauge that was not set within two of its report intervals, 20 s by default. An alert on the age of a
    checkpoint would end then.

    Args:
        write: sets a gauge.
        is_connected: whether this process is connected to Ray.
        seconds: time between two settings.
    """

    def __init__(self, write: Write, is_connected: Callable[[], bool], seconds: float = EXPORT_SECONDS):
        self._write, self._is_connected, self._seconds = write, is_connected, seconds
        self._lock = Lock()
        self._values: dict[tuple[Metric, tuple[tuple[str, str], ...]], float] = {}
        self._is_repeating = False

    def set(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[metric, tuple(sorted(tags.items()))] = value
            self._write(metric, value, dict(tags))
            if not self._is_repeating:
                self._is_repeating = True
                Thread(target=self._repeat, daemon=True).start()

    def _repeat(self) -> None:
        while True:
            time.sleep(self._seconds)
            with self._lock:
                if not self._is_connected():
                    self._values.clear()
                    self._is_repeating = False
                    return
                with suppress(Exception):  # Ray may just be ending
                    for (metric, tags), value in self._values.items():
                        self._write(metric, value, dict(tags))


def _is_connected() -> bool:
    import ray

    return bool(ray.is_initialized())


@lru_cache
def _exporter(metric: Metric) -> Any:
    from ray.util.metrics import Counter, Gauge

    return (Counter if metric.kind == "counter" else Gauge)(
        metric.name, description=metric.meaning, tag_keys=metric.tags
    )


def _set_gauge(metric: Metric, value: float, tags: dict[str, str]) -> None:
    _exporter(metric).set(value, tags)


_gauges = KeptGauges(_set_gauge, _is_connected)
