"""Images of which a part of their shard is fetched: they are checked, and only the damaged ones are replaced."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading import fetches
from dpt_ray.data.loading.fetches import fetches_of, fetches_whole
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segments import read_segments
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards import image_ranges
from dpt_ray.data.shards.image_ranges import fetch_images, near_rows, split_rows
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.layouts import find_layout
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.shards.stored_layouts import encode_layout, read_layout
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

COUNT, FORM = 12, ImageForm(8, 1)
ALLOCATE = new_arrays(FORM, 5)


def pixels(shard: int, row: int) -> np.ndarray:
    return np.random.default_rng([shard, row]).integers(0, 256, (1, 8, 8), np.uint8)


@pytest.fixture
def source(tmp_path) -> ImageSource:
    """Two shards of 12 images with stored layouts."""
    shards = []
    for number in range(2):
        data = build_shard(
            Sample(f"{number}-{row}", {"png": encode_png(pixels(number, row)), "cls": b"1"}) for row in range(COUNT)
        )
        url = str(tmp_path / f"{number}.tar")
        stores.write_bytes(url, data)
        stores.write_bytes(str(tmp_path / "layouts" / sidecar_name(number)), encode_layout(data, url, COUNT))
        info = ShardInfo(url, len(data), sha256(data), COUNT, number=number, layouts=str(tmp_path / "layouts"))
        shards.append(SourceShard(info, labels=tuple(range(100 * number, 100 * number + COUNT))))
    return ImageSource(tuple(shards), FORM)


def damage(info: ShardInfo, row: int) -> None:
    """Change a byte in the middle of an image."""
    data = bytearray(stores.read_bytes(info.url))
    layout = read_layout(info)
    data[(layout.starts[row] + layout.stops[row]) // 2] ^= 1
    stores.write_bytes(info.url, bytes(data))


@pytest.fixture(params=[False, True], ids=["one by one", "fetched ahead"], autouse=True)
def fetch_ahead(request, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.read_segments", partial(read_segments, fetch_ahead=request.param))


def read(source: ImageSource, start: int, stop: int, listed=None) -> tuple[list[bytes], list[int]]:
    reads = [(source, Segment(0, start, stop))]
    blocks = list(read_segments(reads, ALLOCATE, None if listed is None else listed.append))
    images = [image.tobytes() for block in blocks for image in block["image"].copy()]
    return images, [label for block in blocks for label in block["label"].tolist()]


def expected(places: list[tuple[int, int]]) -> tuple[list[bytes], list[int]]:
    return [pixels(*place).tobytes() for place in places], [100 * shard + row for shard, row in places]


@pytest.mark.parametrize(("start", "stop"), [(0, COUNT), (3, 5), (11, 12)])
def test_a_segment_is_the_same_whether_its_shard_is_fetched_whole_or_not(source, start, stop):
    assert fetches_whole(source.shards[0], stop - start) == (stop - start == COUNT)
    assert read(source, start, stop) == expected([(0, row) for row in range(start, stop)])


def test_only_the_damaged_image_is_replaced_however_the_shard_is_divided(source):
    damage(source.shards[0].info, 4)
    wanted = expected([(1 if row == 4 else 0, row) for row in range(COUNT)])
    for cuts in ([0, COUNT], [0, 4, 7, COUNT], [0, 2, COUNT]):
        listed: list = []
        parts = [read(source, first, last, listed) for first, last in pairwise(cuts)]
        assert ([i for part in parts for i in part[0]], [n for part in parts for n in part[1]]) == wanted
        assert [(entry.where, entry.key, entry.images) for entry in listed] == [(source.shards[0].info.url, "0-4", 1)]
        assert "differs from its index" in listed[0].reason


def test_damage_is_an_error_where_nothing_may_be_left_out(source):
    damage(source.shards[0].info, 4)
    for start, stop in ((0, COUNT), (3, 6)):
        with pytest.raises(UserError, match="differs from its index"):
            read(source, start, stop)
    read(source, 5, 8)  # the others are intact


def test_a_shard_that_is_gone_is_replaced_whole(source, tmp_path):
    (tmp_path / "0.tar").unlink()
    listed: list = []
    assert read(source, 2, 5, listed) == expected([(1, 2), (1, 3), (1, 4)])
    assert [(entry.key, entry.images) for entry in listed] == [(None, COUNT)]


def test_labels_of_another_shard_are_no_damage_of_images(source, tmp_path):
    labels = str(tmp_path / "labels.parquet")
    stores.write_bytes(labels, encode_sidecar([f"other-{n}" for n in range(COUNT)], {"label": np.arange(COUNT)}))
    first = replace(source.shards[0], labels=None, label_sidecar=labels)
    listed: list = []
    assert read(ImageSource((first, source.shards[1]), FORM), 0, 3, listed) == expected([(1, 0), (1, 1), (1, 2)])
    assert [entry.key for entry in listed] == [None]


def test_a_lost_layout_only_costs_bytes(source, tmp_path):
    (tmp_path / "layouts" / sidecar_name(0)).unlink()
    assert read(source, 3, 5) == expected([(0, 3), (0, 4)])


def test_a_stored_layout_is_that_of_the_shard_without_samples_left_out(source):
    info = source.shards[0].info
    stored, found = read_layout(info), find_layout(stores.read_bytes(info.url), info)
    assert (stored.keys, stored.starts.tolist(), stored.stops.tolist()) == (
        found.keys,
        found.starts.tolist(),
        found.stops.tolist(),
    )
    fewer = replace(info, samples=COUNT - 2, skipped=(0, 5))
    assert read_layout(fewer).keys.split("\n") == [f"0-{row}" for row in range(COUNT) if row not in (0, 5)]
    shard = SourceShard(fewer, labels=tuple(range(COUNT - 2)))
    images, _ = read(ImageSource((shard,), FORM), 3, 6)
    assert images == expected([(0, 4), (0, 6), (0, 7)])[0]
    assert read_layout(replace(info, samples=COUNT - 1)) is None


def test_images_far_apart_are_fetched_singly_and_many_in_parts(source, monkeypatch):
    info = source.shards[0].info
    layout = read_layout(info)
    assert near_rows(layout, [0, 1, 9]) == [[0, 1, 9]]
    monkeypatch.setattr(image_ranges, "GAP_BYTES", 2048)
    assert near_rows(layout, [0, 1, 9]) == [[0, 1], [9]]
    assert sorted(fetch_images(info, layout, [9, 0, 1])) == [0, 1, 9]
    monkeypatch.setattr(image_ranges, "FETCH_BYTES", int((layout.stops - layout.starts)[:3].sum()))
    assert next(split_rows(layout, range(COUNT))) == slice(0, 3)
    cut = [place for part in split_rows(layout, range(COUNT)) for place in range(part.start, part.stop)]
    assert cut == list(range(COUNT))


def test_an_index_keeps_the_place_of_its_layouts(source, tmp_path):
    shards = tuple(shard.info for shard in source.shards)
    folder = str(tmp_path / "dataset" / "ab")
    layouts = f"{folder}/layouts"
    index = DatasetIndex(shards, (1, 1), f"{folder}/labels", None, layouts)
    stores.write_json(f"{folder}/index.json", index.to_json(folder))
    again = read_index(folder)
    assert again.layout_folder == layouts
    assert [shard.layout_sidecar for shard in again.shards] == [f"{layouts}/{sidecar_name(n)}" for n in range(2)]


@pytest.mark.parametrize(("most_bytes", "is_ahead"), [(0, False), (2**20, True)])
def test_a_large_shard_without_a_layout_is_not_fetched_ahead(source, monkeypatch, most_bytes, is_ahead):
    monkeypatch.setattr(fetches, "MOST_WHOLE_BYTES", most_bytes)
    shards = [replace(shard, info=replace(shard.info, layouts=None)) for shard in source.shards]
    (fetch,) = fetches_of(ImageSource(tuple(shards), FORM), Segment(0, 2, 5))
    assert fetch.whole
    assert (fetch.done_ahead().ahead is not None) == is_ahead
