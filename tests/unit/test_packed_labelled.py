"""Labelled images in shards of their own: the same images in the same order, for fewer bytes and requests."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from counting_store import CountingStore
from run_in_process import without_ray

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.prefetch_plan import segment_sequence
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segments import read_segment
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.shards import stored_layouts
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.shards.stored_layouts import encode_layout
from dpt_ray.data.storage import stores
from dpt_ray.distributed.messages import packed
from dpt_ray.pipeline.artifacts.damage import list_own_files
from dpt_ray.pipeline.artifacts.labelled import labelled_source, write_labelled
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.packed_labelled import PACKED_PARTS, pack_labelled, packed_shards, pays
from dpt_ray.pipeline.execution.step import StepContext

SIDE, SIZE, SHARDS = 32, 300, 8
GAP = 8000
"""Bytes that a request costs here, more than an image has."""
FORM = ImageForm(SIDE, 3)
ROOT = "counting://packing"
STREAMED = ClusterConfig(keep_mib=0)


@pytest.fixture(autouse=True)
def empty_store(monkeypatch):
    without_ray(monkeypatch)
    CountingStore.store.clear()
    stored_layouts._known.clear()


def write_set(*, layouts: bool) -> DatasetIndex:
    """Shards of noise with labels; sample 5 of each is left out of the index."""
    random = np.random.default_rng(0)
    infos = []
    for number in range(SHARDS):
        pixels = random.integers(0, 256, (SIZE + 1, 3, SIDE, SIDE), np.uint8)
        data = build_shard(
            Sample(f"{number}/{n}", {"png": encode_png(image), "cls": b"1"}) for n, image in enumerate(pixels)
        )
        url = f"{ROOT}/data/{number}.tar"
        stores.write_bytes(url, data)
        stores.write_bytes(f"{ROOT}/layouts/{sidecar_name(number)}", encode_layout(data, url, SIZE + 1))
        folder = f"{ROOT}/layouts" if layouts else None
        infos.append(ShardInfo(url, len(data), sha256(data), SIZE, (5,), number, layouts=folder))
    return DatasetIndex(tuple(infos), (1,), "", layout_folder=f"{ROOT}/layouts" if layouts else None)


def choose() -> list[LabelledImage]:
    """One image of a hundred, none in the third shard."""
    return [
        LabelledImage(shard, row, f"{shard}/{row + (row >= 5)}", (shard + row) % 7)
        for shard in range(SHARDS)
        for row in range(shard, SIZE, 100)
        if shard != 2
    ]


def made(name: str, index: DatasetIndex, *, copies: bool) -> Artifact:
    folder = f"{ROOT}/labelled_subset/{name}"
    context = StepContext(folder, {}, STREAMED, "labelled subset", TOLERATE_NOTHING)
    chosen = choose()
    write_labelled(folder, chosen)
    if copies:
        assert pack_labelled(context, index, chosen, FORM) == 1
    return Artifact(folder, {"facts": {}, "files": list_own_files(folder)})


def read_epochs(source: ImageSource) -> Iterator[tuple[bytes, int]]:
    """The images and labels of two epochs in the order of a training."""
    order = ImageOrder(source.counts, seed=1, lanes=4, shuffle_window=8)
    for segment in segment_sequence(order, range(4), 1, 0, 2 * source.num_images // 4):
        for block in read_segment(source, segment, new_arrays(FORM, 2), None):
            yield from zip((image.tobytes() for image in block["image"]), block["label"].tolist(), strict=True)


@pytest.mark.parametrize("layouts", [True, False])
def test_a_training_gets_the_same_images_in_the_same_order(monkeypatch, layouts):
    monkeypatch.setattr("dpt_ray.pipeline.execution.packed_labelled.GAP_BYTES", GAP)
    monkeypatch.setattr("dpt_ray.data.shards.image_ranges.GAP_BYTES", GAP)
    index = write_set(layouts=layouts)
    plain = labelled_source(made("0", index, copies=False), index, FORM)
    copied = labelled_source(made("1", index, copies=True), index, FORM)
    assert copied.counts == plain.counts
    assert copied.num_images == len(choose())
    expected, fetched, requests = measured(plain)
    seen, packed_bytes, packed_requests = measured(copied)
    assert seen == expected
    assert len(set(seen)) == len(choose())
    assert packed_bytes < (1.1 if layouts else 0.1) * fetched  # headers lie between images of a packed shard
    if layouts:
        assert packed_requests < 0.8 * requests


def measured(source: ImageSource) -> tuple[list[tuple[bytes, int]], int, int]:
    list(read_epochs(source))  # layouts are fetched once
    CountingStore.count_from_here()
    return list(read_epochs(source)), CountingStore.fetched, CountingStore.requests


def test_packed_shards_hold_no_labels_and_the_files_as_they_were(monkeypatch):
    monkeypatch.setattr("dpt_ray.pipeline.execution.packed_labelled.GAP_BYTES", GAP)
    index = write_set(layouts=True)
    artifact = made("1", index, copies=True)
    assert set(artifact.files) == {"labelled.json", "index.json", "shards/00000.tar", "layouts/00000.parquet"}
    data = stores.read_bytes(artifact.file("shards", "00000.tar"))
    assert b".cls" not in data
    assert data.count(b"\x89PNG") == len(choose())


def test_an_image_that_cannot_be_read_leaves_all_where_they_are(monkeypatch, capsys):
    monkeypatch.setattr("dpt_ray.pipeline.execution.packed_labelled.GAP_BYTES", GAP)
    index = write_set(layouts=True)
    stores.write_bytes(index.shards[3].url, b"another file")
    context = StepContext(f"{ROOT}/labelled_subset/2", {}, STREAMED, "labelled subset", TOLERATE_NOTHING)
    assert pack_labelled(context, index, choose(), FORM) is None
    assert list_own_files(context.folder) == {}
    said = capsys.readouterr().err
    assert "labelled images stay in the shards of all images, for counting://packing/data/3.tar" in said


def imagenet(size: int, layouts: str | None) -> DatasetIndex:
    shards = (ShardInfo(str(n), 111_000 * size, "0", size, layouts=layouts) for n in range(1_281_000 // size))
    return DatasetIndex(tuple(shards), (1,), "", layout_folder=layouts)


@pytest.mark.parametrize(
    ("size", "share", "layouts", "keep", "answer"),
    [
        (1000, 0.01, "l", 2**30, True),
        (10_000, 0.01, "l", 2**30, True),
        (1000, 0.01, None, 2**30, True),
        (1000, 0.002, None, 2**30, False),  # decoded once and kept
        (1000, 1.0, "l", 2**30, False),  # all images are labelled
        (1000, 0.5, None, 2**30, True),
        (1000, 0.9, None, 2**30, False),
    ],
)
def test_packing_where_it_pays(size, share, layouts, keep, answer):
    index = imagenet(size, layouts)
    rows = {shard: range(round(share * size)) for shard in range(len(index.shards))}
    assert pays(rows, index, ImageForm(256, 3), keep) is answer


def test_a_packed_shard_lists_what_it_needs_in_a_short_message():
    infos = tuple(
        replace(
            ShardInfo(f"s3://bucket/data/train-{n:06d}.tar", 10**8, sha256(str(n).encode()), 1000), layouts="s3://l"
        )
        for n in range(2000)
    )
    rows: dict[int, Any] = {shard: [shard % 1000] for shard in range(2000)}
    units = packed_shards(rows, DatasetIndex(infos, (1,), ""))
    assert [len(unit.parts) for unit in units] == [PACKED_PARTS] * (2000 // PACKED_PARTS) + [2000 % PACKED_PARTS]
    assert max(len(packed(unit)) for unit in units) <= 64_000
