"""Reading through Ray Data: kept or streamed, a worker sees the same rows in the same order."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from numbered_shards import numbered_image, write_numbered_shards

from dpt_ray.data.loading.batches import batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.distributed import reading, streamed_images
from dpt_ray.distributed.datasource import segment_dataset
from dpt_ray.distributed.kept_images import KeptImages
from dpt_ray.distributed.reading import open_source
from dpt_ray.distributed.starved_stream import Starvation
from dpt_ray.distributed.streamed_images import StreamedImages
from dpt_ray.errors import UserError

KEEP_ALL, KEEP_NOTHING = 2**30, 0


def _rows(reader, order, lanes, first_step, steps):
    read = reader.open(order=order, lanes=lanes, rows_per_lane=3, first_step=first_step)
    stream = batches(order, read, lanes=lanes, rows_per_lane=3, first_step=first_step)
    return list(itertools.islice(stream, steps))


@pytest.mark.usefixtures("local_ray")
def test_kept_and_streamed_sources_give_the_same_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_images, "TASKS_AHEAD", 2)  # several executions in a few epochs
    for module in (streamed_images, reading):
        monkeypatch.setattr(module, "BLOCK_BYTES", 320)  # and several blocks in a read task
    ray.data.DataContext.get_current().execution_options.preserve_order = False  # as in a worker that just started
    source = write_numbered_shards(str(tmp_path), [10, 3, 17, 1])
    order = ImageOrder(source.counts, seed=5, lanes=4, shuffle_window=8)
    kept, streamed = open_source(source, KEEP_ALL), open_source(source, KEEP_NOTHING)
    assert isinstance(kept, KeptImages)
    assert isinstance(streamed, StreamedImages)
    for lanes, first_step in [(range(4), 0), (range(2, 4), 5)]:
        expected = _rows(kept, order, lanes, first_step, 8)
        for got, want in zip(_rows(streamed, order, lanes, first_step, 8), expected, strict=True):
            np.testing.assert_array_equal(got["image"], want["image"])
            np.testing.assert_array_equal(got["label"], want["label"])


@pytest.mark.usefixtures("local_ray")
def test_a_stream_with_fewer_read_tasks_than_readers_yields_its_rows(tmp_path):
    source = write_numbered_shards(str(tmp_path), [4])
    order = ImageOrder(source.counts, seed=0, lanes=1, shuffle_window=100)
    read = StreamedImages(source, memory=2**20, readers=3, cpus=0.5).open(
        order=order, lanes=[0], rows_per_lane=4, first_step=0, stop_step=1
    )
    (batch,) = itertools.islice(batches(order, read, lanes=[0], rows_per_lane=4, first_step=0), 1)
    assert sorted(image.tobytes() for image in batch["image"]) == sorted(numbered_image(n).tobytes() for n in range(4))


@pytest.mark.usefixtures("local_ray")
def test_the_blocks_of_a_read_task_are_full_and_hold_what_was_read(tmp_path):
    """They are decoded into the same array one after another, so each must be copied before the next."""
    source = write_numbered_shards(str(tmp_path), [10, 3, 17, 6])
    tasks = [[Segment(0, 0, 10), Segment(1, 0, 3)], [Segment(2, 0, 17)], [Segment(3, 2, 6)]]
    blocks = ray.get(segment_dataset(source, tasks, 4, None, 1.0).to_numpy_refs())
    assert [len(block["label"]) for block in blocks] == [4, 4, 4, 1, 4, 4, 4, 4, 1, 4]
    numbers = [*range(30), *range(32, 36)]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in blocks]), [numbered_image(n) for n in numbers])
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in blocks]), [n % 3 for n in numbers])


@pytest.mark.usefixtures("local_ray")
def test_streams_that_nobody_consumes_leave_their_cpus_to_others(tmp_path, monkeypatch):
    """More streams than CPUs, each with more to read than it may hold: a worker may need any of them next."""
    monkeypatch.setattr(streamed_images, "BLOCK_BYTES", 320)
    source = write_numbered_shards(str(tmp_path), [100] * 4)
    order = ImageOrder(source.counts, seed=5, lanes=4, shuffle_window=8)
    cpus = int(ray.cluster_resources()["CPU"])
    opened = []
    for _ in range(cpus + 1):
        streamed = StreamedImages(source, memory=10 * 320, readers=1)
        read = streamed.open(order=order, lanes=range(4), rows_per_lane=3, first_step=0)
        opened.append(batches(order, read, lanes=range(4), rows_per_lane=3, first_step=0))
    first = [next(stream)["image"] for stream in opened]
    for image in first[1:]:
        np.testing.assert_array_equal(image, first[0])


@pytest.mark.usefixtures("local_ray")
def test_an_epoch_gives_every_image_once_with_its_label(tmp_path):
    source = write_numbered_shards(str(tmp_path), [10, 3, 17, 6])
    order = ImageOrder(source.counts, seed=0, lanes=4, shuffle_window=100)
    seen = _rows(open_source(source, KEEP_ALL), order, range(4), 0, 3)  # 3 steps of 4 lanes of 3 rows: 36 images
    images = {row["image"][i].tobytes(): int(row["label"][i]) for row in seen for i in range(12)}
    assert images == {numbered_image(n).tobytes(): n % 3 for n in range(36)}


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_changed_after_indexing_is_refused_by_name(tmp_path):
    source = write_numbered_shards(str(tmp_path), [4, 4])
    damaged = Path(source.shards[1].info.url)
    content = bytearray(damaged.read_bytes())
    content[700] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=r"00001\.tar: its content differs from its index"):
        open_source(source, KEEP_ALL)
    order = ImageOrder(source.counts, seed=0, lanes=2, shuffle_window=100)
    with pytest.raises(Exception, match=r"00001\.tar: its content differs from its index"):
        _rows(open_source(source, KEEP_NOTHING), order, range(2), 0, 3)


@pytest.mark.usefixtures("local_ray")
def test_a_stream_whose_readers_get_no_cpu_is_read_by_its_worker(tmp_path):
    source = write_numbered_shards(str(tmp_path), [10, 3, 17, 1])
    order = ImageOrder(source.counts, seed=5, lanes=4, shuffle_window=8)
    expected = _rows(open_source(source, KEEP_ALL), order, range(4), 0, 4)
    lines: list[str] = []
    earlier = set(threading.enumerate())
    cpus = ray.cluster_resources()["CPU"]
    holder = ray.remote(num_cpus=cpus)(Holder).remote()
    ray.get(holder.hold.remote(), timeout=60)
    try:
        streamed = StreamedImages(source, memory=2**20, readers=2)
        starvation = Starvation(lambda event: lines.append(event.text), seconds=0.5)
        read = streamed.open(
            order=order, lanes=range(4), rows_per_lane=3, first_step=0, stop_step=4, starvation=starvation
        )
        stream = batches(order, read, lanes=range(4), rows_per_lane=3, first_step=0)
        for got, want in zip(itertools.islice(stream, 4), expected, strict=True):
            np.testing.assert_array_equal(got["image"], want["image"])
            np.testing.assert_array_equal(got["label"], want["label"])
    finally:
        ray.kill(holder)
    # What was requested of readers ends as soon as they get CPUs.
    deadline = time.monotonic() + 60
    while any(thread.name.startswith("StreamingExecutor") for thread in set(threading.enumerate()) - earlier):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert lines[0] == "no reader gave a block for 0.5 s, so the worker reads by itself"


class Holder:
    """An actor that keeps its CPUs."""

    def hold(self) -> None:
        """Return once the actor runs."""
