"""The figures of the benchmark of scale, and how steps grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from dpt_ray.data.storage.json_records import Record
from dpt_ray.tables import format_seconds

STORE_SECONDS = 0.03
"""Time in which an object store answers a request, s."""


@dataclass(frozen=True)
class StepScale(Record):
    """One step at one size.

    Attributes:
        step: its name.
        images: number of images.
        classes: number of classes.
        cpu_seconds: CPU time of the driver, s; None for a step that was left out or failed, as `told` says.
        wall_seconds: wall time, s, with that of workers on the same machine.
        peak_mib: largest memory of the driver beyond what it had before the step, MiB.
        requests: requests of the driver to the store.
        store_seconds: `cpu_seconds`, and `STORE_SECONDS` for each request one after another, s.
        told: why it was not measured.
        drawn: whether partial results of groups were drawn at random (`scale_groups.py`), and not made by workers.
        load: load of the machine over 1 minute after the step.
    """

    step: str
    images: int
    classes: int
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    peak_mib: float | None = None
    requests: int | None = None
    store_seconds: float | None = None
    told: str = ""
    drawn: bool = False
    load: float | None = None

    def __str__(self) -> str:
        what = f"{self.step}, {self.images:,} images, {self.classes:,} classes"
        if self.wall_seconds is None:
            return f"{what}: {self.told}"
        return (
            f"{what}: {self.cpu_seconds:.1f} s of CPU, {self.wall_seconds:.1f} s, {self.peak_mib:,.0f} MiB, "
            f"{self.requests:,} requests"
        )


@dataclass(frozen=True)
class Growth(Record):
    """How a step grows from the second largest to the largest measured size: exponents of the number of images.

    Attributes:
        step: its name.
        classes: number of classes.
        seconds: exponent of `StepScale.store_seconds`; None where fewer than two sizes were measured.
        memory: exponent of `StepScale.peak_mib`.
    """

    step: str
    classes: int
    seconds: float | None
    memory: float | None


@dataclass(frozen=True)
class ScaleFigures(Record):
    """Results of the benchmark.

    Attributes:
        per_shard: images of a shard.
        measured: every step at every size.
        growth: exponents.
        load: load of the machine over 1 minute, before and after.
        machine_cpus: its CPUs.
    """

    per_shard: int
    measured: list[StepScale]
    growth: list[Growth]
    load: list[float]
    machine_cpus: int | None


def growth_of(measured: Sequence[StepScale], name: str, classes: int) -> Growth:
    """Return how a step grows with the images, for a number of classes."""
    known = _known(measured, name, classes)
    if len(known) < 2:
        return Growth(name, classes, None, None)
    first, last = known[-2:]

    def exponent(field: str) -> float:
        low, high = (max(1e-3, getattr(entry, field)) for entry in (first, last))
        return log(high / low) / log(last.images / first.images)

    return Growth(name, classes, exponent("store_seconds"), exponent("peak_mib"))


def left_out(
    measured: Sequence[StepScale], name: str, images: int, classes: int, most_seconds: float, most_mib: float
) -> StepScale | None:
    """Return the entry of a step that would take too long or too much memory at the next size; None if it would not.

    A time or a memory is the line through the two sizes before, and proportional to the images after one size.

    Args:
        measured: the figures so far.
        name: name of the step.
        images: number of images.
        classes: number of classes.
        most_seconds: most wall time, s.
        most_mib: most memory, MiB.
    """
    before = [entry for entry in measured if (entry.step, entry.classes) == (name, classes)]
    if not before:
        return None
    if before[-1].wall_seconds is None:
        return StepScale(name, images, classes, told="left out, as at the size before")
    known = _known(measured, name, classes)[-2:]

    def expected(field: str) -> float:
        first, last = getattr(known[0], field), getattr(known[-1], field)
        if len(known) == 1:
            return float(last) * images / known[-1].images
        slope = max(0.0, last - first) / (known[-1].images - known[0].images)
        return float(last) + slope * (images - known[-1].images)

    if expected("wall_seconds") <= most_seconds and expected("peak_mib") <= most_mib:
        return None
    about = f"{format_seconds(expected('store_seconds'))} and {expected('peak_mib'):,.0f} MiB"
    return StepScale(name, images, classes, told=f"left out: about {about} by the sizes before")


def _known(measured: Sequence[StepScale], name: str, classes: int) -> list[StepScale]:
    return [e for e in measured if (e.step, e.classes) == (name, classes) and e.wall_seconds is not None]
