"""How much memory a stream takes while it passes through far more images than the object store holds."""

import logging
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from dpt_ray.data.loading.source import ImageSource
from dpt_ray.distributed.cluster import configure_data

MIB = 2**20
SAMPLE_SECONDS = 0.25
TIMES_LARGER = 10
"""The images that are streamed, once decoded, against the object store's limit."""


@dataclass(frozen=True)
class StreamMemory:
    """Memory of this process, Ray and its workers together (proportional set size, MiB) while streaming.

    Attributes:
        store_mib: the object store's limit.
        streamed_mib: decoded images that passed through.
        peaks_mib: the highest total in each third of the time; a leak would let them grow.
        spilled_mib: what the object store had to write to disk.
        images_per_second: speed of the stream.
    """

    store_mib: float
    streamed_mib: float
    peaks_mib: tuple[float, ...]
    spilled_mib: float
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return asdict(self)


def measure_stream_memory(source: ImageSource, shuffle_window: int, cpus: int, store_mib: int) -> StreamMemory:
    """Stream at least `TIMES_LARGER` times the object store's limit, on a local Ray started for it."""
    import ray

    from dpt_ray.benchmark.readers import ours_cold
    from dpt_ray.distributed import ray_internals

    ray.shutdown()
    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=store_mib * MIB,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    configure_data()
    # The same shards again and again are as many different ones to the stream.
    repeats = int(-(-TIMES_LARGER * store_mib * MIB // source.decoded_bytes))
    longer = ImageSource(source.shards * repeats, source.form)
    ours_cold(source, shuffle_window)(1)  # starts the readers
    with _Sampler() as sampler:
        began = time.perf_counter()
        images = ours_cold(longer, shuffle_window)(1)
        seconds = time.perf_counter() - began
    spilled = ray_internals.spilled_bytes()
    ray.shutdown()
    return StreamMemory(
        store_mib, longer.decoded_bytes / MIB, sampler.peaks_of_thirds(), spilled / MIB, images / seconds
    )


class _Sampler:
    """Sums the memory of this process and all below it, from a thread."""

    def __init__(self) -> None:
        self._totals: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._totals.append(_total_mib())

    def peaks_of_thirds(self) -> tuple[float, ...]:
        third = max(1, len(self._totals) // 3)
        return tuple(max(self._totals[start : start + third], default=0.0) for start in (0, third, 2 * third))


def _total_mib() -> float:
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss  # shared pages are divided between those that share them
        except psutil.Error:  # it ended
            continue
    return total / MIB
