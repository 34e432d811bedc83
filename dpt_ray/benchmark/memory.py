"""Memory of a stream whose decoded images are far larger than the object store."""

import logging
import threading
import time
from dataclasses import dataclass

import psutil

from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.connection import configure_data

MIB = 2**20
SAMPLE_SECONDS = 0.25
TIMES_LARGER = 10
"""Bytes of streamed decoded images, as a multiple of the object store's limit."""


@dataclass(frozen=True)
class StreamMemory(Record):
    """Memory while streaming: proportional set size of this process, Ray and its workers together.

    Attributes:
        store_mib: limit of the object store, MiB.
        streamed_mib: decoded images that were streamed, MiB.
        peaks_mib: peak memory in each third of the time, MiB; a leak would show as growth.
        spilled_mib: data that the object store spilled to disk, MiB.
        images_per_second: rate of the stream.
    """

    store_mib: float
    streamed_mib: float
    peaks_mib: tuple[float, ...]
    spilled_mib: float
    images_per_second: float


def measure_stream_memory(source: ImageSource, shuffle_window: int, cpus: int, store_mib: int) -> StreamMemory:
    """Stream at least `TIMES_LARGER` times the object store's limit on a local Ray, which is started and shut down.

    Args:
        source: the images.
        shuffle_window: `data.shuffle_window`, in images.
        cpus: CPUs of the local Ray.
        store_mib: limit of its object store, MiB.
    """
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
    # A stream does not recognise repeated shards, so repeats count as different data.
    repeats = int(-(-TIMES_LARGER * store_mib * MIB // source.decoded_bytes))
    longer = ImageSource(source.shards * repeats, source.form)
    ours_cold(source, shuffle_window)(1)  # warm-up: starts the reader processes
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
    """A thread that samples the total memory of this process and its descendants."""

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
            total += process.memory_full_info().pss  # divides shared pages between processes
        except psutil.Error:  # it ended
            continue
    return total / MIB
