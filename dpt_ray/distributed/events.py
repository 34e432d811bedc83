"""What a person on call cares about: each event is a line of the log, a JSON record and a metric.

An event has a kind from the list below, whose `name` never changes, a line of text, and fields. The driver writes it.
Workers send theirs to the job's board, which hands them to the driver.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dpt_ray.config.places import redacted
from dpt_ray.data.storage.outages import Outage
from dpt_ray.distributed import job_log, metrics
from dpt_ray.tables import format_bytes

_LONGEST = 300
"""Most characters of an error in an event."""

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Kind:
    """A kind of event.

    Attributes:
        name: the field `event` of the JSON record, and the label `event` of the metrics.
        level: of the line.
        meaning: what has happened, for the documentation.
        fields: names of the record's fields.
    """

    name: str
    level: Literal["info", "warning"]
    meaning: str
    fields: tuple[str, ...] = ()


NODE_LOST = Kind("node_lost", "warning", "a node has left the cluster", ("node", "cpus", "gpus", "announced"))
NODE_DRAINING = Kind(
    "node_draining", "warning", "a node is about to be reclaimed", ("node", "cpus", "gpus", "seconds_left")
)
NODE_JOINED = Kind("node_joined", "info", "a node has joined the cluster", ("node", "cpus", "gpus"))
STOP_REQUESTED = Kind("stop_requested", "warning", "training is to stop: a checkpoint is made at once", ("reason",))
PREEMPTED = Kind("preempted", "warning", "training stopped after a notice, with a checkpoint", ("images",))
RESTARTED = Kind("workers_restarted", "warning", "workers start again after a failure", ("images", "failures", "error"))
RESIZED = Kind("resized", "warning", "training goes on with another number of workers", ("workers", "before"))
WAITING = Kind("waiting_for_nodes", "warning", "the nodes do not host what is needed", ("waited_seconds",))
FEWER_CPUS = Kind("fewer_cpus", "warning", "workers reserve fewer CPUs than planned", ("cpus", "planned"))
STARVED = Kind("starved", "warning", "no reader gives data, so the worker reads by itself", ("seconds",))
READERS_BACK = Kind("readers_back", "info", "readers give data again")
STORE_FAILING = Kind("store_failing", "warning", "requests to the store fail and are repeated", ("url", "error"))
STORE_RECOVERED = Kind("store_recovered", "info", "the store answers again", ("url", "seconds"))
CHECKPOINT_STORED = Kind("checkpoint_stored", "info", "a checkpoint is stored", ("images", "bytes", "seconds"))

KINDS = (
    NODE_LOST,
    NODE_DRAINING,
    NODE_JOINED,
    STOP_REQUESTED,
    PREEMPTED,
    RESTARTED,
    RESIZED,
    WAITING,
    FEWER_CPUS,
    STARVED,
    READERS_BACK,
    STORE_FAILING,
    STORE_RECOVERED,
    CHECKPOINT_STORED,
)


@dataclass(frozen=True)
class Event:
    """Something that has happened.

    Attributes:
        kind: of the event.
        text: a clause for people; the subject is the step or the job.
        fields: values of the kind's fields.
    """

    kind: Kind
    text: str
    fields: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := set(self.fields) - set(self.kind.fields):
            raise ValueError(f"the event {self.kind.name} has no fields {', '.join(sorted(unknown))}")


def resized(before: int, workers: int) -> Event:
    """Return the event of a training whose number of workers has changed."""
    return Event(RESIZED, f"goes on with {workers} instead of {before} workers", {"workers": workers, "before": before})


def of_outage(outage: Outage) -> Event:
    """Return the event of the begin or the end of a store's outage."""
    url = redacted(outage.url)
    if outage.seconds is None:
        text = f"requests to the store fail and are repeated ({outage.error})"
        return Event(STORE_FAILING, text, {"url": url, "error": outage.error})
    seconds = round(outage.seconds, 1)
    return Event(STORE_RECOVERED, f"the store answers again after {seconds:g} s", {"url": url, "seconds": seconds})


def stored(images: int, size: int, seconds: float) -> Event:
    """Return the event of a checkpoint.

    Args:
        images: images seen.
        size: bytes of the checkpoint.
        seconds: time to write it, beside the training.
    """
    text = f"a checkpoint after {images:,} images is stored ({format_bytes(size)} in {seconds:.1f} s)"
    return Event(CHECKPOINT_STORED, text, {"images": images, "bytes": size, "seconds": round(seconds, 3)})


def preempted(images: int) -> Event:
    """Return the event of a training that has stopped after a notice, or has lost an announced node.

    Args:
        images: images seen at the checkpoint that it goes on from.
    """
    return Event(PREEMPTED, f"stopped by a preemption, and goes on from {images:,} images", {"images": images})


def restarted(images: int, failures: int, error: str) -> Event:
    """Return the event of workers that start again after a failure.

    Args:
        images: images seen at the newest checkpoint.
        failures: number of failures since there was a newer checkpoint.
        error: the failure.
    """
    reason = " ".join(error.split())[:_LONGEST]
    text = f"its workers start again from {images:,} images, since {reason}"
    return Event(RESTARTED, text, {"images": images, "failures": failures, "error": reason})


def count(event: Event, run: str, step: str) -> None:
    """Export an event: how often it happened, and when it did last."""
    tags = {"run": run, "step": step, "event": event.kind.name}
    metrics.write_to_ray(metrics.EVENTS, 1, tags)
    metrics.write_to_ray(metrics.EVENT_TIME, time.time(), tags)


def tell(event: Event, about: Mapping[str, str] | None = None) -> None:
    """Log and export an event that belongs to no step's progress, on standard error.

    Args:
        event: the event.
        about: fields of the record, such as `run`; those that hold in this context if None.
    """
    known = {name: str(value) for name, value in (job_log.present() if about is None else about).items()}
    job_log.tell(
        line(event), level=event.kind.level, stream=sys.stderr, **{**known, "event": event.kind.name, **event.fields}
    )
    count(event, known.get("run", ""), known.get("step", ""))


def line(event: Event, title: str = "") -> str:
    """Return an event's line."""
    prefix = "warning: " if event.kind.level == "warning" else ""
    return prefix + (f"{title}: {event.text}" if title else event.text)
