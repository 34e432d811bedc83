"""Benchmark of scale: what each step does in the driver at 1e5 to 1e8 images, without pixels and without training.

Every measurement runs in a process of its own, so that its largest memory is its own. The driver's time is its CPU
time; work that a step sends to workers on Ray is in the wall time alone. Requests are the files that the driver opens,
lists or renames in the store, which here is a local disk; `STORE_SECONDS` stands for the time in which a real one
answers.
"""

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.benchmark.scale_steps import HELD_OUT, STEPS, Place
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError
from dpt_ray.tables import format_seconds

STORE_SECONDS = 0.03
"""Time in which an object store answers a request, s."""
_MIB = 2**20
_REQUESTS = ("open", "os.rename", "os.listdir", "os.scandir")
"""Audit events that stand for requests to the store."""


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


def measure_scale(
    *,
    images: Sequence[int],
    classes: Sequence[int],
    steps: Sequence[str],
    per_shard: int,
    folder: str | None,
    most_seconds: float,
    most_mib: float,
    say: Callable[[str], None],
) -> ScaleFigures:
    """Measure every step at every size.

    Args:
        images: numbers of images, ascending.
        classes: numbers of classes.
        steps: words that the names of the measured steps contain; all steps without one.
        per_shard: images of a shard.
        folder: local folder for synthetic data, which stays there for another call; a temporary one by default.
        most_seconds: a step that would take longer, by its wall time at the size before, is left out, s.
        most_mib: the same of its memory, MiB.
        say: called with each result, as a line of text, when it is known.

    Raises:
        UserError: no step has such a name, or a number of images is no multiple of `per_shard`.
    """
    wanted = [name for name in STEPS if not steps or any(word in name for word in steps)]
    if not wanted:
        raise UserError(f"no step is called {steps[0]!r}", where="--steps", fix=f"there are: {', '.join(STEPS)}")
    if uneven := [number for number in images if number % per_shard or number < per_shard]:
        raise UserError(f"{uneven[0]} is no multiple of {per_shard}, the images of a shard", where="--images")
    load = [os.getloadavg()[0]]
    measured: list[StepScale] = []
    with _folder(folder) as place:
        for count in classes:
            for name in wanted:
                for size in sorted(images)[: None if STEPS[name].follows == "images" else 1]:
                    found = _left_out(measured, name, size, count, most_seconds, most_mib)
                    if found is None:
                        found = _in_own_process(place, name, size, count, per_shard)
                    measured.append(found)
                    say(_line(found))
    growth = [_growth(measured, name, count) for count in classes for name in wanted]
    return ScaleFigures(per_shard, measured, growth, [*load, os.getloadavg()[0]], os.cpu_count())


@contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given).absolute()
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _left_out(
    measured: Sequence[StepScale], name: str, images: int, classes: int, most_seconds: float, most_mib: float
) -> StepScale | None:
    """Return the entry of a step that would take too long or too much memory, if it grows in proportion."""
    before = [entry for entry in measured if (entry.step, entry.classes) == (name, classes)]
    if not before:
        return None
    last = before[-1]
    if last.wall_seconds is None or last.peak_mib is None or last.store_seconds is None:
        return StepScale(name, images, classes, told="left out, as at the size before")
    times = images / last.images
    seconds, mib = last.wall_seconds * times, last.peak_mib * times
    if seconds <= most_seconds and mib <= most_mib:
        return None
    expected = f"{format_seconds(last.store_seconds * times)} and {mib:,.0f} MiB"
    return StepScale(name, images, classes, told=f"left out: about {expected} if it grows in proportion")


def _in_own_process(folder: Path, name: str, images: int, classes: int, per_shard: int) -> StepScale:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, folder, name, images, classes, per_shard))
    process.start()
    theirs.close()
    found: StepScale | None = None
    with suppress(EOFError):
        found = ours.recv()
    process.join()
    return found or StepScale(name, images, classes, told=f"ended with status {process.exitcode}")


def _measure(connection: Connection, folder: Path, name: str, images: int, classes: int, per_shard: int) -> None:
    step = STEPS[name]
    own = Path(tempfile.mkdtemp(dir=_made(folder)))
    try:
        train = SyntheticSet(folder, "train", images, classes, per_shard)
        test = SyntheticSet(folder, "test", -(-HELD_OUT // per_shard) * per_shard, classes, per_shard)
        if step.ray_from is not None and train.shards >= step.ray_from:
            from dpt_ray.config.schema import ClusterConfig
            from dpt_ray.distributed.cluster import connect

            connect(ClusterConfig(local_cpus=1))
        work = step.prepare(Place(train, test, own))
        counted = _Requests(folder)
        before = _reset_peak()
        began, busy = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - began, time.process_time() - busy
        counted.stop()
        mib = max(0.0, (_peak() - before) / _MIB)
        total = cpu + STORE_SECONDS * counted.number
        connection.send(StepScale(name, images, classes, cpu, wall, mib, counted.number, total))
    except UserError as error:
        connection.send(StepScale(name, images, classes, told=str(error)))
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Requests:
    """Counts what this process opens, lists and renames below a folder, from now on."""

    def __init__(self, folder: Path):
        self.number, self._folder, self._counts = 0, str(folder), True
        sys.addaudithook(self._heard)

    def stop(self) -> None:
        """Count no more; an audit hook cannot be removed."""
        self._counts = False

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._counts and event in _REQUESTS and arguments and str(arguments[0]).startswith(self._folder):
            # A file is written as another one that is renamed: one request to an object store.
            self.number += not (event == "open" and str(arguments[0]).endswith(".partial"))


def _reset_peak() -> int:
    """Begin a new count of the largest resident memory; return the present one in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or _peak()


def _peak() -> int:
    """Return the largest resident memory since `_reset_peak` in bytes, or since the start where there is no /proc."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _line(found: StepScale) -> str:
    what = f"{found.step}, {found.images:,} images, {found.classes:,} classes"
    if found.wall_seconds is None:
        return f"{what}: {found.told}"
    return (
        f"{what}: {found.cpu_seconds:.1f} s of CPU, {found.wall_seconds:.1f} s, {found.peak_mib:,.0f} MiB, "
        f"{found.requests:,} requests"
    )


def _growth(measured: Sequence[StepScale], name: str, classes: int) -> Growth:
    from math import log

    known = [e for e in measured if (e.step, e.classes) == (name, classes) and e.wall_seconds is not None]
    if len(known) < 2:
        return Growth(name, classes, None, None)
    first, last = known[-2:]

    def exponent(field: str) -> float:
        low, high = (max(1e-3, getattr(entry, field)) for entry in (first, last))
        return log(high / low) / log(last.images / first.images)

    return Growth(name, classes, exponent("store_seconds"), exponent("peak_mib"))
