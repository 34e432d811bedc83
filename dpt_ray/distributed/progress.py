"""Progress that a person can follow: a bar on a terminal, plain lines in a log."""

import io
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

from dpt_ray.distributed import job_log
from dpt_ray.distributed.events import CHECKPOINT_STORED, Event, count, line
from dpt_ray.distributed.measurements import publish, publish_picture
from dpt_ray.distributed.metrics import CHECKPOINT_TIME, IMAGES, LOSS, WORKERS, Metric, StepMetrics
from dpt_ray.distributed.terminal_bar import TerminalBar
from dpt_ray.tables import duration

LINE_SECONDS = 10.0
"""Between two plain lines."""
BAR_SECONDS = 0.1
"""Between two states of a bar."""
RATE_SECONDS = 2.0
"""Shortest time over which a rate is measured. Units that arrive together, such as two shards, would give any rate."""
PUBLISH_SECONDS = 1.0
"""Between two measurements of a step that trains nothing."""


class ProgressLine:
    """Shows one step's progress. As a context it leaves a terminal in order, however the step ends.

    Args:
        title: the step's name.
        total: units of work.
        unit: their name (plural).
        stream: where to write, standard error if None; a bar if it is a terminal, otherwise lines.
    """

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None):
        self.title, self.total, self.unit = title, total, unit
        self._stream = stream
        self._has_bar = not job_log.wants_json() and TerminalBar.is_possible(stream or sys.stderr)
        self._bar: TerminalBar | None = None
        self._began: float | None = None
        self._first = 0
        self._written = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, done: int, totals: Mapping[Metric, float] | None = None, **values: float) -> None:
        """Show that `done` units are finished, with values such as the loss; `totals` is for `StepProgress`."""
        now = time.monotonic()
        if self._began is None:
            self._began, self._first = now, done
        if done < self.total and now - self._written < (BAR_SECONDS if self._has_bar else LINE_SECONDS):
            return
        self._written = now
        if self._has_bar:
            self._draw(done, now - self._began, dict(values))
        else:
            text, fields = self.describe(done, now - self._began, dict(values)), _fields(totals or {}, values)
            self._tell(text, event="progress", done=done, total=self.total, unit=self.unit, **fields)

    def record(self, row: Mapping[str, float]) -> None:
        """Note a row of a training's history; `StepProgress` gives it to observers."""

    def show(self, done: int, png: bytes) -> None:
        """Take a picture of a network that has seen `done` images; `StepProgress` gives it to observers."""

    def resume(self, done: int) -> None:
        """Tell that the step goes on from `done` units."""
        self._tell(f"{self.title}: goes on from {done:,} {self.unit}", event="resumed", done=done)

    def note(self, text: str) -> None:
        """Say something about the step that its reader should know."""
        self._tell(f"{self.title}: {text}", event="note")

    def warn(self, text: str) -> None:
        """Show a warning about the step."""
        self._tell(f"warning: {self.title}: {text}", level="warning", event="warning")

    def report(self, event: Event) -> None:
        """Tell of an event; `StepProgress` exports it, too."""
        self._tell(line(event, self.title), level=event.kind.level, event=event.kind.name, **event.fields)

    def begin(self) -> None:
        """Note that a training begins; `StepProgress` exports it."""

    def count_workers(self, workers: int) -> None:
        """Note with how many workers a training runs; `StepProgress` exports it."""

    def end(self) -> None:
        """Note that a training has ended; `StepProgress` exports it."""

    def describe(self, done: int, seconds: float, values: dict[str, float]) -> str:
        """Return the text for a state of progress."""
        details, left = self._details(done, seconds, values)
        return f"{self.title}: {details}" + (f", {left} left" if left else "")

    def close(self) -> None:
        """Show no more: a bar stays as it is, and the terminal is given back."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _details(self, done: int, seconds: float, values: dict[str, float]) -> tuple[str, str]:
        """Return what is known of a state of progress, and how long the rest takes; empty if that is not known."""
        rate = values.pop("rate", self._rate(done, seconds))
        text = f"{done:,} of {self.total:,} {self.unit}"
        if rate > 0:
            text += f", {rate:,.0f} {self.unit}/s"
        text += "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        return text, duration((self.total - done) / rate) if rate > 0 and done < self.total else ""

    def _rate(self, done: int, seconds: float) -> float:
        """Return units per second since the first sight of them; 0 where the time is too short to tell."""
        return (done - self._first) / seconds if seconds >= RATE_SECONDS else 0.0

    def _draw(self, done: int, seconds: float, values: dict[str, float]) -> None:
        details, left = self._details(done, seconds, values)
        if self._bar is None:
            self._bar = TerminalBar(self.title, self.total, self._stream or sys.stderr)
        self._bar.draw(done, left, details)
        if done >= self.total:
            self.close()

    def _tell(self, text: str, **fields: Any) -> None:
        if self._bar is not None:
            self._bar.say(text)
            job_log.tell(text, stream=io.StringIO(), **fields)  # for the log of the run, since the bar has shown it
        else:
            job_log.tell(text, stream=self._stream or sys.stderr, **fields)


def _fields(totals: Mapping[Metric, float], values: Mapping[str, float]) -> dict[str, float]:
    """Return totals and values by what they are called in a JSON line."""
    named = {metric.name.removeprefix("dpt_").removesuffix("_total"): value for metric, value in totals.items()}
    return named | {"per_second" if name == "rate" else name: value for name, value in values.items()}


class StepProgress(ProgressLine):
    """The progress of a step of a run: shown as any, logged with the run and step it belongs to, exported as metrics.

    It belongs to what `job_log.about` says where it is made, whichever thread uses it.

    Args:
        title: the step's name with its number.
        total: units of work.
        unit: their name (plural).
        stream: see `ProgressLine`.
    """

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None):
        super().__init__(title, total, unit, stream)
        self._about = job_log.present()
        self._step = str(self._about.get("step", title))
        self._metrics = StepMetrics(self._about.get("run", ""), self._step)
        self._published = -math.inf

    def update(self, done: int, totals: Mapping[Metric, float] | None = None, **values: float) -> None:
        """Show and export that `done` units are finished.

        Args:
            done: units.
            totals: the step's counters as they stand; `done` stands for images where they have none.
            values: such as the loss.
        """
        super().update(done, totals, **values)
        counted = {IMAGES: done, **(totals or {})} if self.unit == "images" else totals or {}
        gauges = {LOSS: values["loss"]} if "loss" in values else {}
        if not gauges:  # a training's rows are recorded one by one
            self._publish(done, values)
        self._metrics.update(done / max(1, self.total), counted, gauges, last=done >= self.total)

    def record(self, row: Mapping[str, float]) -> None:
        """Give a row of a training's history to observers; its column `images` is the number of finished units."""
        values = {name: value for name, value in row.items() if name != "images"}
        publish(self._step, int(row["images"]), self.total, self.unit, values)

    def show(self, done: int, png: bytes) -> None:
        """Give a picture of a network that has seen `done` images to observers."""
        publish_picture(self._step, done, png)

    def report(self, event: Event) -> None:
        """Tell of an event and export it."""
        super().report(event)
        count(event, str(self._about.get("run", "")), self._step)
        if event.kind is CHECKPOINT_STORED:
            self._metrics.set(CHECKPOINT_TIME, time.time())

    def begin(self) -> None:
        """Export that the age of checkpoints counts from now."""
        self._metrics.set(CHECKPOINT_TIME, time.time())

    def end(self) -> None:
        """Export that no checkpoint is due any more, and no worker runs."""
        self._metrics.set(CHECKPOINT_TIME, 0.0)
        self._metrics.set(WORKERS, 0.0)

    def count_workers(self, workers: int) -> None:
        """Export with how many workers a training runs."""
        self._metrics.set(WORKERS, float(workers))

    def _publish(self, done: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        if done < self.total and now - self._published < PUBLISH_SECONDS:
            return
        self._published = now
        rate = self._rate(done, now - self._began) if self._began is not None else 0.0
        measured = {f"{self.unit}_per_second": rate} if rate > 0 else {}
        publish(self._step, done, self.total, self.unit, {**measured, **values})

    def resume(self, done: int) -> None:
        """Tell that the step goes on from `done` units."""
        super().resume(done)
        self._metrics.resume(done)

    def _tell(self, text: str, **fields: Any) -> None:
        super()._tell(text, **{**self._about, **fields})
