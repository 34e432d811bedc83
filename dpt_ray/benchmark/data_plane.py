"""Benchmark of reading: this package, decoding only, Ray Data's `read_webdataset`, and webdataset's loader."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpt_ray.benchmark import readers
from dpt_ray.benchmark.contest import Result, run_contest
from dpt_ray.benchmark.memory import StreamMemory, measure_stream_memory
from dpt_ray.benchmark.photos import write_photo_shards
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.importing.file_sets import list_shards
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import fetch_shard, sha256
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.distributed.connection import connect

PHOTOS = "photos"
"""Value for `shards` that generates shards of photographs for the benchmark."""

CEILING, STOCK, STOCK_FAST = "a: decoding alone", "b: read_webdataset, Pillow", "b+: read_webdataset, our decoder"
LOADER, LOADER_FAST = "c: WebLoader, Pillow", "c+: WebLoader, our decoder"
COLD, KEPT = "d: ours, cold", "d: ours, kept"
PHOTO_SHARDS, PHOTOS_PER_SHARD = 8, 150


@dataclass(frozen=True)
class ReadingFigures(Record):
    """Results of the benchmark.

    Attributes:
        images: number of images.
        shards: number of shards.
        image_size: side to which images are resized, in pixels.
        shuffle_window: `data.shuffle_window` of our readers, in images.
        cpus: CPUs of every contestant.
        machine_cpus: CPUs of the machine.
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn, s.
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        ratios: "one / other" -> ratio of their median rates.
        memory: memory of a long stream.
    """

    images: int
    shards: int
    image_size: int
    shuffle_window: int
    cpus: int
    machine_cpus: int | None
    rounds: int
    seconds: float
    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    ratios: dict[str, float]
    memory: StreamMemory


def measure_reading(
    *,
    shards: str,
    image_size: int,
    shuffle_window: int,
    rounds: int,
    seconds: float,
    cpus: int,
    store_mib: int,
    say: Callable[[str], None],
) -> ReadingFigures:
    """Compare the rates of reading, then measure the memory of a long stream.

    Args:
        shards: path or URL of a folder of shards, or `PHOTOS`.
        image_size: side to which images are resized, in pixels.
        shuffle_window: `data.shuffle_window` of our readers, in images.
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn.
        cpus: CPUs of the local Ray, and worker processes of webdataset's loader.
        store_mib: limit of the object store in the measurement of memory, in MiB.
        say: called with each result, as a line of text, when it is known.
    """
    with tempfile.TemporaryDirectory() as folder:
        if shards == PHOTOS:
            shards = write_photo_shards(Path(folder), PHOTO_SHARDS, PHOTOS_PER_SHARD)
        source = _index(stores.absolute_url(shards), ImageForm(image_size, 3))
        connect(ClusterConfig(local_cpus=cpus))
        fast, pillow = readers.decode_fast, readers.decode_with_pillow
        results = run_contest(
            {
                CEILING: readers.decode_only(source, cpus),
                STOCK: readers.stock_ray(source, pillow),
                STOCK_FAST: readers.stock_ray(source, fast),
                LOADER: readers.web_loader(source, pillow, cpus),
                LOADER_FAST: readers.web_loader(source, fast, cpus),
                COLD: readers.ours_cold(source, shuffle_window),
                KEPT: readers.ours_kept(source, shuffle_window),
            },
            rounds,
            seconds,
            say,
        )
        memory = measure_stream_memory(source, shuffle_window, cpus, store_mib)
    return ReadingFigures(
        images=source.num_images,
        shards=len(source.shards),
        image_size=image_size,
        shuffle_window=shuffle_window,
        cpus=cpus,
        machine_cpus=os.cpu_count(),
        rounds=rounds,
        seconds=seconds,
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratios=_ratios(results),
        memory=memory,
    )


def _index(url: str, form: ImageForm) -> ImageSource:
    shards = []
    for file in list_shards(url):
        data = fetch_shard(file["url"])
        samples, _ = reliable_samples(data, file["url"])
        shards.append(SourceShard(ShardInfo(file["url"], len(data), sha256(data), len(samples))))
    return ImageSource(tuple(shards), form)


def _ratios(results: dict[str, Result]) -> dict[str, float]:
    cold = results[COLD].median
    others = (CEILING, STOCK, STOCK_FAST, LOADER, LOADER_FAST)
    return {
        **{f"cold / {name}": cold / results[name].median for name in others},
        "kept / cold": results[KEPT].median / cold,
    }


def reading_tables(figures: ReadingFigures) -> str:
    """Return the results of `measure_reading` as Markdown."""
    rates, memory = figures.images_per_second, figures.memory
    lines = [
        f"{figures.images:,} images in {figures.shards} shards, {figures.image_size}x{figures.image_size} RGB, "
        f"shuffle window {figures.shuffle_window:,}, {figures.cpus} CPUs. {figures.rounds} rounds after warming up, "
        f"contestants in turns, each with as many passes over the images as take about {figures.seconds:g} s.",
        "",
        "| contestant | images/s, median | slowest and fastest round | ours cold against it |",
        "|---|---|---|---|",
    ]
    for name, median in figures.median.items():
        ratio = figures.ratios.get(f"cold / {name}")
        comparison = (
            f"{ratio:.2f}" if ratio else (f"kept is {figures.ratios['kept / cold']:.1f} times" if name == KEPT else "")
        )
        lines.append(f"| {name} | {median:,.0f} | {min(rates[name]):,.0f} to {max(rates[name]):,.0f} | {comparison} |")
    peaks = ", ".join(f"{peak:,.0f}" for peak in memory.peaks_mib)
    lines += [
        "",
        "| streaming, object store of | decoded images streamed | peak memory in each third, all processes | spilled |",
        "|---|---|---|---|",
        f"| {memory.store_mib:,.0f} MiB | {memory.streamed_mib:,.0f} MiB | {peaks} MiB "
        f"| {memory.spilled_mib:,.0f} MiB |",
    ]
    return "\n".join(lines)
