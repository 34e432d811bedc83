"""One measurement of the benchmark of scale, in a process of its own."""

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from dpt_ray.benchmark.scale_data import SyntheticSet
from dpt_ray.benchmark.scale_groups import draw_partial_results, most_sidecars
from dpt_ray.benchmark.scale_records import STORE_SECONDS, StepScale
from dpt_ray.benchmark.scale_steps import HELD_OUT, STEPS, Place
from dpt_ray.errors import UserError

_MIB = 2**20
_REQUESTS = ("open", "os.rename", "os.listdir", "os.scandir")
"""Audit events that stand for requests to the store."""


@dataclass(frozen=True)
class Measurement:
    """What is measured.

    Attributes:
        folder: local folder of synthetic data.
        step: name of the step.
        images: number of images.
        classes: number of classes.
        per_shard: images of a shard.
        drawn: draw the partial results of groups at random instead of making them.
    """

    folder: Path
    step: str
    images: int
    classes: int
    per_shard: int
    drawn: bool


def measure_in_process(what: Measurement) -> StepScale:
    """Measure a step in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, what))
    process.start()
    theirs.close()
    found: StepScale | None = None
    with suppress(EOFError):
        found = ours.recv()
    process.join()
    return found or StepScale(what.step, what.images, what.classes, told=f"ended with status {process.exitcode}")


def _measure(connection: Connection, what: Measurement) -> None:
    step, shards = STEPS[what.step], what.images // what.per_shard
    what.folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(dir=what.folder))
    try:
        made = most_sidecars(shards) if what.drawn else shards
        train = SyntheticSet(what.folder, "train", what.images, what.classes, what.per_shard, made)
        test = SyntheticSet(
            what.folder, "test", -(-HELD_OUT // what.per_shard) * what.per_shard, what.classes, what.per_shard
        )
        if step.ray_from is not None and shards >= step.ray_from:
            from dpt_ray.config.cluster_section import ClusterConfig
            from dpt_ray.distributed.connection import connect

            connect(ClusterConfig(local_cpus=1))
        clock = _Clock(what.folder)
        if what.drawn:
            draw_partial_results(train, clock.paused)
        work = step.prepare(Place(train, test, own))
        clock.start()
        work()
        clock.stop()
        total = clock.cpu + STORE_SECONDS * clock.requests
        figures = (clock.cpu, clock.wall, clock.peak / _MIB, clock.requests, total)
        load = os.getloadavg()[0]
        connection.send(
            StepScale(what.step, what.images, what.classes, *figures, drawn=what.drawn and made < shards, load=load)
        )
    except UserError as error:
        connection.send(StepScale(what.step, what.images, what.classes, told=str(error)))
    finally:
        shutil.rmtree(own, ignore_errors=True)


class _Clock:
    """Measures this process from `start` to `stop`, without what happens in `paused`.

    Attributes:
        wall: wall time, s.
        cpu: CPU time, s.
        peak: largest memory beyond that at the start, bytes.
        requests: files below a folder that were opened, listed or renamed.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path):
        self.wall, self.cpu, self.peak, self.requests = 0.0, 0.0, 0, 0
        self._folder, self._runs, self._grown = str(folder), False, 0
        sys.addaudithook(self._heard)

    def start(self) -> None:
        """Begin to measure, or go on."""
        self._base = _reset_peak() - self._grown
        self._began, self._busy = time.perf_counter(), time.process_time()
        self._runs = True

    def stop(self) -> None:
        """Stop measuring; an audit hook cannot be removed."""
        self._runs = False
        self.wall += time.perf_counter() - self._began
        self.cpu += time.process_time() - self._busy
        self.peak = max(self.peak, _peak() - self._base)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave a part out."""
        if not self._runs:
            yield
            return
        self.stop()
        self._grown = (_status("VmRSS") or 0) - self._base
        yield
        self.start()

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._runs and event in _REQUESTS and arguments and str(arguments[0]).startswith(self._folder):
            # A file is written as another one that is renamed: one request to an object store.
            self.requests += not (event == "open" and str(arguments[0]).endswith(".partial"))


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
