"""A store that answers each request after 30 ms: the readers of a stream decode as much as from one that does at once.

An order of 256 lanes requests 64 images at a time, as that of the ImageNet presets does, and a stream from a store has
two readers for each CPU, each of which fetches ahead. Both rates are measured in turns: read tasks of Ray Data run in
threads of this process.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest
from counting_store import CountingStore

from dpt_ray.benchmark.photos import write_photo_shards
from dpt_ray.core.worker_lanes import worker_lanes
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import segment_sequence
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards import stored_layouts
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.shards.stored_layouts import encode_layout
from dpt_ray.data.storage import stores
from dpt_ray.distributed.datasource import SegmentDatasource
from dpt_ray.distributed.reading import REMOTE_READERS

ROOT = "counting://photos"
IMAGES, LANES = 512, 256
REQUEST = 64
"""Images of a request: a lane's share of the shuffle window, and of the preset's."""
LATENCY_SECONDS = 0.03
PAIRS = 5
LEAST_RATIO = 0.9


def photo_source(folder: Path) -> ImageSource:
    write_photo_shards(folder, 1, IMAGES)
    data = (folder / "00000.tar").read_bytes()
    url = f"{ROOT}/0.tar"
    stores.write_bytes(url, data)
    stores.write_bytes(f"{ROOT}/layouts/{sidecar_name(0)}", encode_layout(data, url, IMAGES))
    info = ShardInfo(url, len(data), sha256(data), IMAGES, number=0, layouts=f"{ROOT}/layouts")
    return ImageSource((SourceShard(info, labels=(0,) * IMAGES),), ImageForm(256, 3))


def requests_of(source: ImageSource, workers: int) -> list[Segment]:
    """The first requests of a worker, some epochs of them, so that each reader has many."""
    order = ImageOrder([IMAGES * LANES], seed=0, lanes=LANES, shuffle_window=REQUEST * LANES)
    lanes = worker_lanes(LANES, 0, workers)
    planned = segment_sequence(order, lanes, 1, 0)
    found = [next(planned) for _ in range(24)]
    assert {len(segment) for segment in found} == {REQUEST}
    starts = [segment.start % (IMAGES - REQUEST + 1) for segment in found]
    return [Segment(0, start, start + REQUEST) for start in starts]  # the same, in the photographs that there are


def images_per_second(source: ImageSource, requests: list[Segment], latency: float) -> float:
    """Rate of the read tasks of a worker, all of which run at the same time."""
    CountingStore.latency_seconds = latency
    shares = [requests[first::REMOTE_READERS] for first in range(REMOTE_READERS)]
    tasks = SegmentDatasource(source, shares, REQUEST, None, lambda: source, None).get_read_tasks(REMOTE_READERS)
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(REMOTE_READERS) as readers:
            total = sum(readers.map(lambda task: sum(len(block) for block in task()), tasks))
    finally:
        CountingStore.latency_seconds = 0.0
    return total / (time.monotonic() - began)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 256])
def test_a_latency_of_30_ms_hides_behind_decoding(tmp_path, capsys, workers):
    CountingStore.store.clear()
    stored_layouts._known.clear()
    source = photo_source(tmp_path)
    requests = requests_of(source, workers)
    images_per_second(source, requests[:4], 0.0)  # it reads the layout
    CountingStore.count_from_here()
    pairs = [[images_per_second(source, requests, latency) for latency in (0.0, LATENCY_SECONDS)] for _ in range(PAIRS)]
    assert CountingStore.requests == 2 * PAIRS * len(requests)
    ratio = median(slow / fast for fast, slow in pairs)
    with capsys.disabled():
        text = ", ".join(f"{fast:,.0f} and {slow:,.0f}" for fast, slow in pairs)
        print(f"\n{workers} workers, images/s at 0 and 30 ms: {text}; ratio {ratio:.2f}")
    assert ratio >= LEAST_RATIO
