"""Benchmark of the metrics of pseudo images: comparing features one by one, and computing them."""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from dpt_ray.benchmark.contest import Contestant, run_contest
from dpt_ray.benchmark.photos import write_photo_shards
from dpt_ray.core.metrics.neighbours import compare_supports
from dpt_ray.core.models.inception import Inception
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.units import shard_units
from dpt_ray.networks.inception_weights import find_inception, open_inception
from dpt_ray.networks.metric_networks import MetricNetwork
from dpt_ray.pipeline.execution.statistics_worker import StatisticsPart, StatisticsWorker
from dpt_ray.tables import markdown_table

OURS, BARE = "statistics from shards", "forward pass alone"
SAMPLE = 10_000
_MIB = 2**20


@dataclass(frozen=True)
class MetricsFigures(Record):
    """Results of the benchmark.

    Attributes:
        rows: images of each kind that are compared.
        features: features of each.
        support_seconds: time of precision, recall, density and coverage in each round, s.
        support_cpu_seconds: time of all CPUs that they took in each round, s; other programs do not lengthen it.
        support_mib: largest memory that they took beyond the features, MiB; None where it cannot be read.
        images: images in the shards that features are computed from.
        image_size: side of the images, in pixels.
        batch: images that the network reads together.
        device: device of the network.
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        share: our rate over that of the forward pass alone.
        cpu_share: the same of images per second of CPU time.
        threads: threads of PyTorch.
        machine_cpus: CPUs of the machine.
    """

    rows: int
    features: int
    support_seconds: list[float]
    support_cpu_seconds: list[float]
    support_mib: float | None
    images: int
    image_size: int
    batch: int
    device: str
    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    share: float
    cpu_share: float
    threads: int
    machine_cpus: int | None


def measure_metrics(
    *,
    rows: int,
    features: int,
    images: int,
    image_size: int,
    batch: int,
    rounds: int,
    seconds: float,
    device: str,
    say: Callable[[str], None],
) -> MetricsFigures:
    """Time the comparison of features, and compare the computation of statistics with the network's own rate.

    The network is Inception-v3 with random weights, whose speed is that of trained ones.

    Args:
        rows: images of each kind that are compared.
        features: features of each.
        images: images in the shards that features are computed from.
        image_size: side to which images are decoded, in pixels.
        batch: images that the network reads together.
        rounds: timed rounds of each.
        seconds: approximate length of a turn of the second comparison, s.
        device: device of the network.
        say: called with each result, as a line of text, when it is known.
    """
    random = torch.Generator().manual_seed(0)
    real, pseudo = (torch.randn(rows, features, generator=random) for _ in range(2))
    times: list[float] = []
    cpu_times: list[float] = []
    memory: float | None = None
    for number in range(1, rounds + 1):
        with PeakMemory() as peak:
            began, busy = time.perf_counter(), time.process_time()
            compare_supports(real, pseudo)
            times.append(time.perf_counter() - began)
            cpu_times.append(time.process_time() - busy)
        memory = peak.mib if memory is None or peak.mib is None else max(memory, peak.mib)
        say(f"round {number}: {rows:,} against {rows:,} images: {times[-1]:.1f} s, {cpu_times[-1]:.1f} s of CPUs")
    with tempfile.TemporaryDirectory() as folder:
        contestants = _contestants(Path(folder), images, image_size, batch, device)
        timed = {name: CpuTimed(contestant) for name, contestant in contestants.items()}
        results = run_contest(timed, rounds, seconds, say)
    return MetricsFigures(
        rows=rows, features=features, support_seconds=times, support_cpu_seconds=cpu_times, support_mib=memory,
        images=images, image_size=image_size, batch=batch,
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        share=results[OURS].median / results[BARE].median, cpu_share=timed[OURS].rate / timed[BARE].rate,
        threads=torch.get_num_threads(), machine_cpus=os.cpu_count(),
    )  # fmt: skip


def _contestants(folder: Path, images: int, size: int, batch: int, device: str) -> dict[str, Contestant]:
    place = str(folder / "inception.safetensors")
    save_file(Inception().state_dict(), place)
    found = find_inception(place)
    (folder / "shards").mkdir()
    write_photo_shards(folder / "shards", 1, images)
    shard = folder / "shards" / "00000.tar"
    content = shard.read_bytes()
    index = DatasetIndex((ShardInfo(str(shard), len(content), sha256(content), images),), (images,), "")
    worker = StatisticsWorker(
        network=MetricNetwork(found.name, "inception", {}, inception=found), form=ImageForm(size, 3),
        sample=SAMPLE, images=images, folder=str(folder), batch=batch, device=device, strict=True,
    )  # fmt: skip
    network = open_inception(found, device)
    pixels = torch.randint(0, 256, (batch, 3, 299, 299), dtype=torch.uint8, device=device)  # resizing changes nothing

    def ours(passes: int) -> int:
        for _ in range(passes):
            worker.make(StatisticsPart(0, tuple(shard_units(index))))
        return passes * images

    def bare(passes: int) -> int:
        batches = -(-images // batch)
        for _ in range(passes * batches):
            network(pixels)
        if device == "cuda":
            torch.cuda.synchronize()
        return passes * batches * batch

    return {OURS: ours, BARE: bare}


class CpuTimed:
    """A contestant, and the CPU time that all its turns took."""

    def __init__(self, contestant: Contestant):
        self._contestant = contestant
        self._images, self._seconds = 0, 0.0

    def __call__(self, passes: int) -> int:
        """Make the passes; return the number of images."""
        began = time.process_time()
        images = self._contestant(passes)
        self._seconds += time.process_time() - began
        self._images += images
        return images

    @property
    def rate(self) -> float:
        """Images per second of CPU time."""
        return self._images / self._seconds


class PeakMemory:
    """The largest growth of this process's resident memory while the context is entered, as a thread sees it."""

    mib: float | None = None

    def __enter__(self) -> "PeakMemory":
        self._done = threading.Event()
        self._before = _resident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            now = _resident()
            if now is not None and self._before is not None:
                self.mib = max(self.mib or 0.0, (now - self._before) / _MIB)


def _resident() -> int | None:
    """Return this process's resident memory in bytes; None where there is no /proc."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def metrics_table(figures: MetricsFigures) -> str:
    """Return the results of `measure_metrics` as Markdown."""
    times = sorted(figures.support_seconds)
    memory = "unknown" if figures.support_mib is None else f"{figures.support_mib:,.0f} MiB"
    supports = [
        ("precision, recall, density, coverage", "time", "CPU time", "memory beyond the features"),
        (
            f"{figures.rows:,} against {figures.rows:,} images, {figures.features} features",
            f"{times[len(times) // 2]:.1f} s",
            f"{sorted(figures.support_cpu_seconds)[len(times) // 2]:.1f} s",
            memory,
        ),
    ]
    rates = [
        ("Inception-v3", "images/s", "share", "share by CPU time"),
        (BARE, f"{figures.median[BARE]:.1f}", "1", "1"),
        (OURS, f"{figures.median[OURS]:.1f}", f"{figures.share:.2f}", f"{figures.cpu_share:.2f}"),
    ]
    about = (
        f"{figures.threads} threads; medians of {len(times)} rounds. Features: {figures.images} photographs at "
        f"{figures.image_size} pixels, batches of {figures.batch}, on {figures.device}."
    )
    return f"{about}\n\n{markdown_table(supports)}\n\n{markdown_table(rates)}"
