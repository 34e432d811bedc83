"""How much of a data set is fetched in an epoch, for any number of lanes and workers and any size of a shard."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
from counting_store import CountingStore

from dpt_ray.core.worker_lanes import worker_lanes
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.fetches import fetches_whole, split_segment
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import segment_sequence
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segments import read_segment
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards import sidecar_ranges, stored_layouts
from dpt_ray.data.shards.image_ranges import near_rows
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.layouts import Layout
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.shards.stored_latents import GROUP_ROWS, LatentForm, encode_latents
from dpt_ray.data.shards.stored_layouts import encode_layout
from dpt_ray.data.storage import stores

SIDE = 48
LATENTS = LatentForm("0" * 64, "float32", SIDE, 1, True, 4, 32, "float16")
ROOT = "counting://data"
MOST = 1.5
"""Most bytes fetched in an epoch, as a multiple of those stored."""


@pytest.fixture(autouse=True)
def empty_store():
    CountingStore.store.clear()


def image_source(counts: list[int]) -> ImageSource:
    """Shards of noise, whose PNGs have some 7 kB each."""
    random = np.random.default_rng(0)
    shards = []
    for number, count in enumerate(counts):
        pixels = random.integers(0, 256, (count, 3, SIDE, SIDE), np.uint8)
        data = build_shard(Sample(f"{number}-{n}", {"png": encode_png(image)}) for n, image in enumerate(pixels))
        url = f"{ROOT}/{number}.tar"
        stores.write_bytes(url, data)
        stores.write_bytes(f"{ROOT}/layouts/{sidecar_name(number)}", encode_layout(data, url, count))
        info = ShardInfo(url, len(data), sha256(data), count, number=number, layouts=f"{ROOT}/layouts")
        shards.append(SourceShard(info, labels=tuple(range(count))))
    return ImageSource(tuple(shards), ImageForm(SIDE, 3))


def latent_source(counts: list[int]) -> ImageSource:
    """Sidecars of moments of 16 kB each, and of labels."""
    random = np.random.default_rng(0)
    shards = []
    for number, count in enumerate(counts):
        keys, labels = [f"{number}-{n}" for n in range(count)], np.arange(count)
        moments = random.standard_normal((count, *LATENTS.shape)).astype(np.float16)
        urls = [f"{ROOT}/{folder}/{sidecar_name(number)}" for folder in ("labels", "latents")]
        stores.write_bytes(urls[0], encode_sidecar(keys, {"label": labels}))
        stores.write_bytes(urls[1], encode_latents(keys, moments, LATENTS, {}))
        info = ShardInfo(f"{ROOT}/{number}.tar", 10**9, "0", count, number=number, layouts=f"{ROOT}/layouts")
        shards.append(SourceShard(info, label_sidecar=urls[0], latent_sidecar=urls[1]))
    return ImageSource(tuple(shards), LATENTS)


def reads_of_an_epoch(order: ImageOrder, rank: int, workers: int, batch: int) -> Iterator[Segment]:
    """What one worker reads in the first epoch; `StreamedImages` merges nothing where shards have layouts."""
    lanes, rows = worker_lanes(order.lanes, rank, workers), batch // order.lanes
    return segment_sequence(order, lanes, rows, 0, order.num_images // batch)


def read_an_epoch(source: ImageSource, workers: int, *, lanes: int, window: int) -> list[int]:
    """Read an epoch with simulated workers, each a process of its own; return the labels, sorted."""
    order = ImageOrder(source.counts, seed=3, lanes=lanes, shuffle_window=window)
    labels = []
    CountingStore.count_from_here()
    for rank in range(workers):
        stored_layouts._known.clear()
        sidecar_ranges._footers.clear()
        for segment in reads_of_an_epoch(order, rank, workers, lanes):
            blocks = read_segment(source, segment, new_arrays(source.form, 100), None)
            labels += list(chain.from_iterable(block["label"].tolist() for block in blocks))
    return sorted(labels)


@pytest.mark.parametrize("workers", [1, 3, 7, 64])
@pytest.mark.parametrize("make", [image_source, latent_source])
@pytest.mark.parametrize("counts", [[256] * 8, [2048]])
def test_an_epoch_fetches_little_more_than_what_is_stored(make, counts, workers):
    source = make(counts)
    stored = CountingStore().du(ROOT)
    labels = read_an_epoch(source, workers, lanes=64, window=2048)
    assert labels == sorted(chain.from_iterable(range(count) for count in counts))
    assert CountingStore.fetched <= MOST * stored
    assert CountingStore.fetched >= 0.9 * stored  # it was counted


@pytest.mark.parametrize("make", [image_source, latent_source])
@pytest.mark.parametrize("counts", [[256] * 16, [1024] * 4])
def test_workers_that_hold_one_lane_or_a_few_fetch_little_more(make, counts):
    source = make(counts)
    stored = CountingStore().du(ROOT)
    for workers in (3, 100, 256):
        read_an_epoch(source, workers, lanes=256, window=4096)
        assert 0.9 * stored <= CountingStore.fetched <= MOST * stored, workers


def test_without_layouts_each_piece_would_fetch_its_shard():
    source = image_source([2048])
    whole = ImageSource(
        tuple(SourceShard(ShardInfo(**{**vars(s.info), "layouts": None}), labels=s.labels) for s in source.shards),
        source.form,
    )
    read_an_epoch(whole, 8, lanes=64, window=2048)
    assert CountingStore.fetched > 20 * source.shards[0].info.bytes


IMAGES, IMAGE_BYTES, SHARD_HEADERS, LAYOUT_BYTES = 1_281_167, 110_000, 1024, 64
"""ImageNet's; the last is more than the layout of an image takes, with its key."""


@pytest.fixture
def imagenet(monkeypatch, request):
    """ImageNet's counts in shards of a number of images, with layouts that are not stored."""
    size = request.param
    counts = [size] * (IMAGES // size) + [IMAGES % size]
    monkeypatch.setattr("dpt_ray.data.loading.fetches.read_layout", lambda info: layout_of(info.samples))
    step = IMAGE_BYTES + SHARD_HEADERS
    shards = (SourceShard(ShardInfo(str(n), step * count, "0", count, layouts="0")) for n, count in enumerate(counts))
    return ImageSource(tuple(shards), ImageForm(256, 3))


def layout_of(samples: int) -> Layout:
    starts = np.arange(samples, dtype=np.int64) * (IMAGE_BYTES + SHARD_HEADERS) + SHARD_HEADERS
    return Layout("", starts, starts + IMAGE_BYTES, np.zeros(samples, np.uint64))


@pytest.mark.parametrize("imagenet", [1000, 10_000], indirect=True)
@pytest.mark.parametrize("workers", [1, 3, 7, 100, 256])
def test_imagenet_is_fetched_once_an_epoch_by_up_to_256_workers(imagenet, workers):
    lanes, batch = 256, 512
    order = ImageOrder(imagenet.counts, seed=0, lanes=lanes, shuffle_window=16384)
    layout = layout_of(max(imagenet.counts))
    fetched = rows = largest = 0
    for rank in range(workers):
        known: set[int] = set()  # shards whose layouts this worker has
        for segment in reads_of_an_epoch(order, rank, workers, batch):
            shard = imagenet.shards[segment.shard]
            rows += len(segment)
            if fetches_whole(shard, len(segment)):
                fetched += shard.info.bytes
                continue
            fetched += 0 if segment.shard in known else LAYOUT_BYTES * shard.info.samples
            known.add(segment.shard)
            for part in split_segment(imagenet, segment):
                for near in near_rows(layout, list(range(part.start, part.stop))):
                    size = int(layout.stops[near[-1]] - layout.starts[near[0]])
                    fetched, largest = fetched + size, max(largest, size)
    assert 0 <= IMAGES - rows < 2 * order.lane_window * lanes  # the last windows may lie in the next epoch
    assert fetched <= 1.02 * rows * (IMAGE_BYTES + SHARD_HEADERS)
    assert largest <= 34 * 2**20


@pytest.mark.parametrize("size", [1000, 10_000])
@pytest.mark.parametrize("workers", [1, 3, 7, 100, 256])
def test_latents_of_imagenet_are_fetched_little_more_than_once_by_up_to_256_workers(size, workers):
    order = ImageOrder([size] * (IMAGES // size) + [IMAGES % size], seed=0, lanes=256, shuffle_window=16384)
    fetched = rows = 0
    for rank in range(workers):
        for segment in reads_of_an_epoch(order, rank, workers, 512):
            rows += len(segment)
            stop = min(order.counts[segment.shard], -(-segment.stop // GROUP_ROWS) * GROUP_ROWS)
            fetched += stop - segment.start // GROUP_ROWS * GROUP_ROWS
    assert fetched <= 1.12 * rows
