"""Sidecars, the choice of labelled images, and the rule that no label comes out of a shard."""

import io
import random
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.importing.file_sets import list_shards
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.loading.source import ImageSource, SourceShard, sidecar_labelled_source, unlabelled_source
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.keys import file_key
from dpt_ray.data.shards.label_choice import (
    Candidates,
    LabelledImage,
    ListedImages,
    check_every_class_labelled,
    choose_listed,
    draw_per_class,
)
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.sidecars import decode_sidecar, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.storage.stores import write_bytes, write_json
from dpt_ray.errors import UserError

WHERE = "memory://labels.txt"

# Sidecars

COLUMNS = {
    "label": np.array([3, -1, 2**40], np.int64),
    "confidence": np.array([0.1, np.nan, 1.0], np.float32),
    "features": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "half": np.array([[0.5], [1.5], [2.5]], np.float16),
    "sure": np.array([True, False, True]),
    "hash": np.array([[1, 2**64 - 1], [2**63, 0], [3, 4]], np.uint64),
    "mask": np.array([[True, False], [False, False], [True, True]]),
}
NAMES = ["a", "b/ü", "c"]


def test_columns_of_one_and_two_dimensions_come_back():
    sidecar = decode_sidecar(encode_sidecar(NAMES, COLUMNS), WHERE)
    assert sidecar.pop("key") == NAMES
    assert sidecar.keys() == COLUMNS.keys()
    for name, values in COLUMNS.items():
        assert sidecar[name].dtype == values.dtype
        assert sidecar[name].shape == values.shape
        np.testing.assert_array_equal(sidecar[name], values)


@given(rows=st.integers(0, 40), width=st.integers(1, 5))
def test_any_number_of_rows_comes_back(rows, width):
    values = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    sidecar = decode_sidecar(encode_sidecar([str(n) for n in range(rows)], {"x": values}), WHERE)
    np.testing.assert_array_equal(sidecar["x"], values)
    assert len(sidecar["key"]) == rows


def test_only_the_wanted_columns_are_returned(tmp_path):
    url = str(tmp_path / "a.parquet")
    write_bytes(url, encode_sidecar(NAMES, COLUMNS))
    assert read_sidecar(url, ["label"]).keys() == {"key", "label"}
    assert read_sidecar(url, []).keys() == {"key"}
    assert read_sidecar(url).keys() == {"key", *COLUMNS}


def test_facts_come_back_and_are_no_column():
    facts = {"samples": 3, "class_counts": {"0": 2}, "name": "ü"}
    data = encode_sidecar(NAMES, COLUMNS, facts)
    assert sidecar_facts(data, WHERE) == facts
    assert sidecar_facts(encode_sidecar(NAMES, COLUMNS), WHERE) == {}
    assert decode_sidecar(data, WHERE).keys() == {"key", *COLUMNS}


@pytest.mark.parametrize("metadata", [None, {}, {"facts": "[1]"}, {"facts": "{"}, {"facts": "[" * 100_000}])
def test_facts_of_a_foreign_table_are_one_line(metadata):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"key": ["a"]}).replace_schema_metadata(metadata), buffer)
    for data in (buffer.getvalue(), b"PAR1"):
        with pytest.raises(UserError, match=f"^{WHERE}: is not a readable sidecar"):
            sidecar_facts(data, WHERE)


def test_equal_content_gives_equal_bytes():
    data = encode_sidecar(NAMES, COLUMNS, {"a": 1})
    assert data == encode_sidecar(list(NAMES), {name: values.copy() for name, values in COLUMNS.items()}, {"a": 1})
    changed = COLUMNS | {"label": np.array([3, -1, 0], np.int64)}
    assert data != encode_sidecar(NAMES, changed, {"a": 1})


def complaint(data: bytes, *columns: str) -> str:
    with pytest.raises(UserError) as caught:
        decode_sidecar(data, WHERE, columns or None)
    return str(caught.value)


def test_missing_columns_are_named():
    assert complaint(encode_sidecar(NAMES, COLUMNS), "label", "colour") == f"{WHERE}: lacks the column 'colour'"
    foreign = io.BytesIO()
    pq.write_table(pa.table({"label": [1, 2]}), foreign)
    assert complaint(foreign.getvalue(), "label") == f"{WHERE}: lacks the column 'key'"
    assert complaint(foreign.getvalue()) == f"{WHERE}: lacks the column 'key'"


def test_damaged_sidecars_are_refused():
    data = encode_sidecar(NAMES, COLUMNS)
    for damaged in (b"", b"PAR1", data[:-1], data[: len(data) // 2], data[1:], b"x" * 500):
        assert "is not a readable sidecar" in complaint(damaged)


def test_a_flipped_bit_in_the_values_is_refused_or_changes_nothing():
    columns = {"label": np.arange(40), "features": np.random.default_rng(0).normal(size=(40, 3))}
    names = [f"image-{n}" for n in range(40)]
    data = encode_sidecar(names, columns)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(4, footer)] ^= 1 << rng.randrange(8)
        try:
            sidecar = decode_sidecar(bytes(damaged), WHERE)
        except UserError:
            refused += 1
        else:
            assert sidecar["key"] == names
            assert all((sidecar[name] == values).all() for name, values in columns.items())
    assert refused > 200


def test_sidecar_names_sort_like_positions():
    assert [sidecar_name(n) for n in (0, 7, 12345)] == ["00000.parquet", "00007.parquet", "12345.parquet"]


# The choice of labelled images

CLASSES = ("cat", "dog", "owl")


def many_images(per_class: int = 20, shards: int = 4) -> list[LabelledImage]:
    total = per_class * len(CLASSES)
    return [LabelledImage(n % shards, n // shards, f"image-{n:03d}", n % len(CLASSES)) for n in range(total)]


def draw(images: list[LabelledImage], counts: list[int], seed: int) -> list[LabelledImage]:
    labelled = [image for image in images if image.label >= 0]
    draws = derive_seeds(("labelled", seed), [image.key for image in labelled])
    columns = (np.array([getattr(i, name) for i in labelled]) for name in ("shard", "row", "label"))
    found = Candidates(*columns, draws, [image.key for image in labelled])
    available = [sum(image.label == label for image in labelled) for label in range(len(CLASSES))]
    return draw_per_class(found, CLASSES, counts, available)


def keys(images: list[LabelledImage]) -> set[str]:
    return {image.key for image in images}


@given(seed=st.integers(0, 1000), small=st.integers(0, 20), large=st.integers(0, 20))
def test_smaller_subsets_lie_within_larger_ones(seed, small, large):
    small, large = sorted([small, large])
    images = many_images()
    chosen = draw(images, [large] * 3, seed)
    assert keys(draw(images, [small] * 3, seed)) <= keys(chosen)
    assert [sum(image.label == label for image in chosen) for label in range(3)] == [large] * 3
    assert len(keys(chosen)) == len(chosen)


@given(order=st.permutations(range(60)), shards=st.integers(1, 9))
def test_a_draw_depends_neither_on_the_order_nor_on_the_place_of_images(order, shards):
    images = many_images()
    moved = [many_images(shards=shards)[n] for n in order]
    counts = [1, 5, 3]
    assert keys(draw(images, counts, 7)) == keys(draw(moved, counts, 7))


def test_seeds_draw_different_images_and_every_image_has_its_turn():
    draws = [keys(draw(many_images(), [4] * 3, seed)) for seed in range(60)]
    assert len(set(map(frozenset, draws))) == 60
    assert set.union(*draws) == keys(many_images())


def test_images_without_a_label_are_never_drawn():
    images = [*many_images(2), *(LabelledImage(9, n, f"none-{n}", -1) for n in range(50))]
    assert keys(draw(images, [2] * 3, 0)) == keys(many_images(2))


def test_asking_for_more_than_a_class_has_names_the_class():
    images = [image for image in many_images(5) if image.key != "image-001"]  # one dog less
    with pytest.raises(UserError, match=r"^labels: 5 labelled images of class 'dog' are requested, and it has 4;"):
        draw(images, [5] * 3, 0)


LISTED = [
    LabelledImage(0, 0, "train/n01/n01_5", 0),
    LabelledImage(0, 1, "train/n01/n01_6", 0),
    LabelledImage(1, 0, "train/n02/n02_5", 1),
    LabelledImage(1, 1, "plain", 2),
    LabelledImage(2, 0, "cat/001", 0),
    LabelledImage(2, 1, "dog/001", 1),
]


def listed(*lines: str) -> list[str]:
    return sorted(image.key for image in choose_listed(ListedImages.all(LISTED), lines, WHERE))


def test_images_are_listed_by_key_or_by_file_name():
    assert listed("train/n01/n01_5", "plain") == ["plain", "train/n01/n01_5"]
    assert listed("n01_6.JPEG", "n02_5.png", " plain.jpg \n", "", "  ") == [
        "plain",
        "train/n01/n01_6",
        "train/n02/n02_5",
    ]
    assert listed("train/n02/n02_5.JPEG", "./plain") == ["plain", "train/n02/n02_5"]


def test_an_image_listed_twice_counts_once():
    assert listed("plain", "plain.png", "plain") == ["plain"]
    assert listed("n01_5.JPEG", "train/n01/n01_5") == ["train/n01/n01_5"]


def test_absent_images_are_counted_and_the_first_is_named():
    with pytest.raises(UserError, match=r"names 2 images that the training data lacks, first 'n09_1.JPEG'"):
        listed("plain", "n09_1.JPEG", "train/n01/n01_7")


def test_a_file_name_that_two_images_have_is_refused_but_their_keys_are_fine():
    with pytest.raises(UserError, match=r"names '001.png', which 2 images are called; .*'cat/001'"):
        listed("001.png")
    assert listed("dog/001.png") == ["dog/001"]
    beside = [*LISTED, LabelledImage(3, 0, "001", 2)]
    assert [image.key for image in choose_listed(ListedImages.all(beside), ["001.png"], WHERE)] == ["001"]


@pytest.mark.parametrize("lines", [[], ["", "  ", "\n"]])
def test_an_empty_list_is_refused(lines):
    with pytest.raises(UserError, match="names no image"):
        listed(*lines)


def test_every_class_needs_a_labelled_image_with_a_true_label():
    check_every_class_labelled(many_images(1), CLASSES, WHERE)
    with pytest.raises(UserError, match="no labelled image of 2 of 3 classes, first 'cat'"):
        check_every_class_labelled([LabelledImage(0, 0, "a", 1)], CLASSES, WHERE)
    for label in (-1, 3):
        with pytest.raises(UserError, match="'a' is chosen as labelled but its shard has no label"):
            check_every_class_labelled([*many_images(1), LabelledImage(0, 0, "a", label)], CLASSES, WHERE)


# Reading

FORM = ImageForm(8, 1)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (1, 8, 8), dtype=np.uint8)


def shard_samples(numbers: range) -> list[Sample]:
    return [Sample(f"image-{n}", {"png": encode_png(picture(n)), "cls": str(n % 3).encode()}) for n in numbers]


def store_shard(url: str, samples: list[Sample], claimed: int | None = None) -> ShardInfo:
    data = build_shard(samples)
    write_bytes(url, data)
    return ShardInfo(url, len(data), sha256(data), len(samples) if claimed is None else claimed)


def rows_of(shard: SourceShard, start: int, stop: int) -> dict[str, np.ndarray]:
    return next(read_rows(shard, range(start, stop), FORM, new_arrays(FORM, 100)))


@pytest.fixture
def shard(tmp_path) -> ShardInfo:
    return store_shard(str(tmp_path / "00000.tar"), shard_samples(range(6)))


@pytest.fixture
def sidecar(tmp_path):
    """Write a sidecar of labels for given keys and return its URL."""

    def write(names: list[str], labels: list[int]) -> str:
        url = str(tmp_path / sidecar_name(0))
        write_bytes(url, encode_sidecar(names, {"label": np.array(labels, np.int32)}))
        return url

    return write


def test_labels_in_a_shard_are_never_returned(shard):
    rows = rows_of(SourceShard(shard), 0, 6)
    assert rows.keys() == {"image", "label"}
    assert rows["label"].tolist() == [UNKNOWN_LABEL] * 6
    assert rows["label"].dtype == np.int64
    assert (rows["image"] == np.stack([picture(n) for n in range(6)])).all()


def test_given_labels_are_returned_though_the_shard_says_otherwise(shard):
    source = SourceShard(shard, rows=(5, 0, 2), labels=(7, 8, 9))
    assert source.num_rows == 3
    rows = rows_of(source, 1, 3)
    assert rows["label"].tolist() == [8, 9]
    assert (rows["image"] == np.stack([picture(0), picture(2)])).all()


def test_chosen_rows_without_labels_are_unknown(shard):
    assert rows_of(SourceShard(shard, rows=(1, 4)), 0, 2)["label"].tolist() == [UNKNOWN_LABEL] * 2


def test_sidecar_labels_are_joined_row_by_row(shard, sidecar):
    names = [f"image-{n}" for n in range(6)]
    url = sidecar(names, [10, 11, 12, 13, 14, 15])
    assert rows_of(SourceShard(shard, label_sidecar=url), 2, 5)["label"].tolist() == [12, 13, 14]
    chosen = SourceShard(shard, rows=(5, 1, 0), label_sidecar=url)
    rows = rows_of(chosen, 0, 2)
    assert rows["label"].tolist() == [15, 11]
    assert rows["label"].dtype == np.int64


@pytest.mark.parametrize("numbers", [range(5), range(7), [0, 1, 2, 3, 5, 4], [0, 1, 2, 3, 4, 4]])
def test_a_sidecar_of_other_images_is_refused(shard, sidecar, numbers):
    url = sidecar([f"image-{n}" for n in numbers], [0] * len(numbers))
    with pytest.raises(UserError, match=r"\.parquet: does not list the samples of its shard"):
        rows_of(SourceShard(shard, label_sidecar=url), 0, 2)


def test_a_missing_sidecar_is_refused(shard, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        rows_of(SourceShard(shard, label_sidecar=str(tmp_path / "none.parquet")), 0, 1)


@pytest.mark.parametrize("claimed", [5, 7])
def test_a_shard_with_another_number_of_samples_is_refused(tmp_path, claimed):
    info = store_shard(str(tmp_path / "a.tar"), shard_samples(range(6)), claimed)
    with pytest.raises(UserError, match=f"holds 6 samples but its index says {claimed}"):
        rows_of(SourceShard(info), 0, 1)


def test_a_changed_shard_is_refused(shard, tmp_path):
    store_shard(shard.url, shard_samples(range(1, 7)))
    with pytest.raises(UserError, match="index the data again"):
        read_shard_samples(shard)


def test_an_unreadable_image_is_named_by_shard_and_sample(tmp_path):
    samples = [*shard_samples(range(2)), Sample("broken", {"png": b"no image"})]
    info = store_shard(str(tmp_path / "a.tar"), samples)
    with pytest.raises(UserError, match=r"a\.tar: sample 'broken': is not a readable image"):
        rows_of(SourceShard(info), 0, 3)
    assert len(rows_of(SourceShard(info), 0, 2)["label"]) == 2


def test_sources_count_their_images_and_add_up(shard):
    index = DatasetIndex((shard, shard), class_counts=(4, 4, 4), label_folder="memory://true-labels")
    everything = unlabelled_source(index, FORM)
    assert (everything.num_images, everything.counts, everything.decoded_bytes) == (12, [6, 6], 12 * 64)
    few = ImageSource((SourceShard(shard, rows=(1, 2), labels=(0, 1)),), FORM)
    assert (few + everything).counts == [2, 6, 6]
    joined = sidecar_labelled_source(index, "memory://labels", FORM)
    assert [s.label_sidecar for s in joined.shards] == [
        "memory://labels/00000.parquet",
        "memory://labels/00001.parquet",
    ]


def test_an_index_moves_with_its_root(tmp_path):
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    own = ShardInfo(f"{old}/shards/ab/00000.tar", 10, "00", 3)
    foreign = ShardInfo("s3://bucket/00001.tar", 11, "11", 4)
    foreign = replace(foreign, number=1, skipped=(2, 5))
    index = DatasetIndex((own, foreign), class_counts=(3, 4), label_folder=f"{old}/dataset/cd/labels")
    write_json(f"{new}/dataset/cd/index.json", index.to_json(f"{old}/dataset/cd"))
    moved = read_index(f"{new}/dataset/cd")
    assert [s.url for s in moved.shards] == [f"{new}/shards/ab/00000.tar", "s3://bucket/00001.tar"]
    assert moved.shards[1] == foreign
    assert moved.label_sidecar(1) == f"{new}/dataset/cd/labels/00001.parquet"
    assert (moved.num_images, moved.num_classes, moved.class_counts) == (7, 2, (3, 4))


@pytest.mark.parametrize("tree", [{}, {"shards": [{}]}, [], {"shards": 3}])
def test_what_is_no_index_is_refused(tmp_path, tree):
    write_json(str(tmp_path / "index.json"), tree)
    with pytest.raises(UserError, match="is not an index"):
        read_index(str(tmp_path))


def test_shards_of_a_folder_are_listed_in_order_of_their_names(tmp_path):
    for name in ("b.tar", "a.tar", "notes.txt"):
        write_bytes(str(tmp_path / name), b"x")
    assert [entry["name"] for entry in list_shards(str(tmp_path))] == ["a.tar", "b.tar"]


def test_folders_without_usable_shards_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        list_shards(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds no shards"):
        list_shards(str(tmp_path))
    (tmp_path / "a.tar").touch()
    with pytest.raises(UserError, match="give a folder"):
        list_shards(str(tmp_path / "b.tar"))


def test_one_shard_and_a_pattern_are_locations(tmp_path):
    for name in ("a-0.tar", "a-1.tar", "b.tar"):
        write_bytes(str(tmp_path / name), b"x")
    assert [entry["url"] for entry in list_shards(str(tmp_path / "b.tar"))] == [str(tmp_path / "b.tar")]
    assert [entry["name"] for entry in list_shards(str(tmp_path / "a-*.tar"))] == ["a-0.tar", "a-1.tar"]


def test_the_official_subset_files_load_as_they_are():
    """One file name a line, `<class>_<number>.JPEG`; the images lie in folders of the classes (ImageNet's layout)."""
    wnids = ["n01440764", "n02123045", "n04235860"]
    paths = [f"{wnid}/{wnid}_{number}.JPEG" for wnid in wnids for number in range(1, 8)]
    images = [
        LabelledImage(0, row, file_key(path), wnids.index(path.partition("/")[0])) for row, path in enumerate(paths)
    ]
    for count in (1, 2, 5):
        lines = "".join(f"{wnid}_{number}.JPEG\n" for wnid in wnids for number in range(1, count + 1)).splitlines()
        chosen = choose_listed(ListedImages.all(images), lines, f"{count}imgs_class.txt")
        assert [image.label for image in chosen] == [label for label in range(3) for _ in range(count)]
        assert {image.key for image in chosen} == {f"{wnid}/{wnid}_{n}" for wnid in wnids for n in range(1, count + 1)}
        check_every_class_labelled(chosen, wnids, "subset")
