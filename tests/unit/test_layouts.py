"""Remembered places of images in shards: the same rows as without, and nothing remembered of what is not whole."""

import numpy as np
import pytest

from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards import layouts
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.errors import UserError

FORM = ImageForm(8, 1)


def sample(number: int) -> Sample:
    image = np.full((1, 8, 8), number, np.uint8)
    return Sample(f"{number:03d}", {"png": encode_png(image), "cls": b"1"})


def shard(folder, content: bytes, samples: int, name: str = "0.tar", **changes) -> ShardInfo:
    (folder / name).write_bytes(content)
    return ShardInfo(str(folder / name), len(content), sha256(content), samples, **changes)


def pixels(info: ShardInfo, rows: list[int]) -> list[int]:
    blocks = read_rows(SourceShard(info), rows, FORM, new_arrays(FORM, 2))
    return [int(image[0, 0, 0]) for block in blocks for image in block["image"]]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(layouts, "_known", type(layouts._known)())


def test_a_shard_is_walked_once_and_gives_the_same_rows_again(tmp_path, monkeypatch):
    info = shard(tmp_path, build_shard([sample(number) for number in range(5)]), 5)
    walked = []
    walk = layouts.sample_places
    monkeypatch.setattr(layouts, "sample_places", lambda *given: walked.append(1) or walk(*given))
    assert [pixels(info, [4, 0, 3]) for _ in range(3)] == [[4, 0, 3]] * 3
    assert walked == [1]


def test_content_that_changed_is_refused_though_its_layout_is_known(tmp_path):
    info = shard(tmp_path, build_shard([sample(number) for number in range(5)]), 5)
    pixels(info, [0])
    shard(tmp_path, build_shard([sample(number) for number in (4, 3, 2, 1, 0)]), 5)
    with pytest.raises(UserError, match="differs from its index"):
        pixels(info, [0])


def test_an_index_that_says_another_number_is_refused_at_every_reading(tmp_path):
    content = build_shard([sample(number) for number in range(5)])
    assert pixels(shard(tmp_path, content, 5), [1]) == [1]
    for _ in range(2):
        with pytest.raises(UserError, match="holds 5 samples but its index says 4"):
            pixels(shard(tmp_path, content, 4), [1])


@pytest.mark.parametrize("kind", ["left out", "without an image", "cut off"])
def test_of_what_is_not_whole_nothing_is_remembered(tmp_path, kind):
    samples = [sample(number) for number in range(5)]
    if kind == "without an image":
        samples[2] = Sample("002", {"cls": b"1"})
    content = build_shard(samples)
    if kind == "cut off":
        content = content[: len(content) // 2]  # right behind the last file
    usable = 5 if kind == "without an image" else 4
    info = shard(tmp_path, content, usable, skipped=(2,) if kind == "left out" else ())
    for _ in range(2):
        assert pixels(info, [0, 1]) == [0, 1]
    assert not layouts._known


def test_the_oldest_layouts_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MOST_SAMPLES", 7)
    infos = [shard(tmp_path, build_shard([sample(10 * n + k) for k in range(3)]), 3, name=f"{n}.tar") for n in range(3)]
    for number in (0, 1, 0, 2):
        assert pixels(infos[number], [2]) == [10 * number + 2]
    assert list(layouts._known) == [infos[0].sha256, infos[2].sha256]
