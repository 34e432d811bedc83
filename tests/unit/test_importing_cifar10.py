"""CIFAR-10's binary version: every record with its pixels and its label, in the file's order."""

import os

import numpy as np
import pytest
from importing_data import labels_of, new_place, settings, shards_of, write

from dpt_ray.data.images.pictures import MAX_PIXELS, open_image
from dpt_ray.data.importing.cifar10_binary import RECORD
from dpt_ray.data.importing.detect import describe
from dpt_ray.errors import UserError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def batch(seed: int, records: int) -> bytes:
    content = np.random.default_rng(seed).integers(0, 256, (records, RECORD), np.uint8)
    content[:, 0] %= 10
    return content.tobytes()


def binary(root: str, **others: bytes | str) -> str:
    """A folder as the archive has it, with few records."""
    files = {f"data_batch_{number}.bin": batch(number, 4) for number in range(1, 6)}
    names = "\n".join(NAMES) + "\n\n"
    return write(root, {**files, "test_batch.bin": batch(9, 3), "batches.meta.txt": names, "readme.html": "x"} | others)


def test_both_splits_lie_in_one_folder(root):
    data = settings(binary(root), root)
    train, test = describe("train", data), describe("test", data)
    assert train.kind == test.kind == "cifar10"
    assert train.class_names == test.class_names == tuple(NAMES)
    shards, skipped = shards_of(train, per_shard=3)
    assert [len(shard) for shard in shards] == [3, 1] * 5  # no shard crosses files
    assert shards[2][0].key == "data_batch_2-00000"
    assert skipped == []
    assert list(labels_of(test)) == ["test_batch-00000", "test_batch-00001", "test_batch-00002"]


def test_pixels_and_labels_are_those_of_the_record(root):
    shards, _ = shards_of(describe("train", settings(binary(root), root)), per_shard=4)
    record = np.frombuffer(batch(3, 4), np.uint8).reshape(4, RECORD)[2]
    sample = shards[2][2]
    assert sample.label("x") == record[0]
    pixels = np.asarray(open_image(sample.files["png"], channels=3, where="x", max_pixels=MAX_PIXELS))
    assert np.array_equal(pixels.transpose(2, 0, 1).ravel(), record[1:])


def test_a_file_that_ends_within_a_record_and_labels_out_of_range_are_listed(root):
    damaged = bytearray(batch(1, 4)[:-7])
    damaged[RECORD] = 77
    images = describe("train", settings(binary(root, **{"data_batch_1.bin": bytes(damaged)}), root))
    shards, skipped = shards_of(images, per_shard=10)
    assert [len(shard) for shard in shards] == [2, 4, 4, 4, 4]
    assert [(e.where.rpartition("/")[2], e.key, e.reason, e.images) for e in skipped] == [
        ("data_batch_1.bin", None, "ends within record 3", 1),
        ("data_batch_1.bin", "data_batch_1-00001", "has the label 77; CIFAR-10 has 0 to 9", 1),
    ]


def test_pointers_pipes_and_other_files_beside_the_batches_are_told(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    root = binary(str(tmp_path), **{"data_batch_1.bin": pointer, "data_batch_6.bin": batch(6, 1)})
    images = describe("train", settings(root, root))
    assert [("git lfs pull" in entry.reason, entry.images) for entry in images.refused] == [(True, 1)]
    assert [entry.name for entry in images.ignored] == ["data_batch_6.bin", "readme.html"]
    (tmp_path / "data_batch_2.bin").unlink()
    os.mkfifo(tmp_path / "data_batch_2.bin")
    with pytest.raises(UserError, match=r"data_batch_2\.bin: is a named pipe, which is never opened"):
        describe("train", settings(root, root))


def test_batches_that_vanish_or_become_shorter_are_listed(root):
    images = describe("train", settings(binary(root), root))
    write(root, {"data_batch_2.bin": batch(2, 1), "data_batch_3.bin": b""})
    _, skipped = shards_of(images, per_shard=4)
    assert [(e.where.rpartition("/")[2], e.images) for e in skipped] == [
        ("data_batch_2.bin", 3),
        ("data_batch_3.bin", 4),
    ]


def test_names_can_be_numbered_anew_and_must_be_known(root):
    backwards = tuple(reversed(NAMES))
    data = settings(binary(root), root)
    ids = labels_of(describe("train", data))
    anew = labels_of(describe("train", data.model_copy(update={"class_names": backwards})))
    assert anew == {key: 9 - label for key, label in ids.items()}
    with pytest.raises(UserError, match=r"the class 'truck' is not one of data\.class_names"):
        describe("train", data.model_copy(update={"class_names": (*NAMES[:9], "lorry")}))


def test_without_names_labels_are_ids(root):
    write(root, {"test_batch.bin": batch(9, 3)})
    images = describe("test", settings(root, root, class_names=tuple("abcdefghij")))
    assert images.class_names == tuple("abcdefghij")
    assert list(labels_of(images).values()) == [b % 10 for b in batch(9, 3)[::RECORD]]


def test_pickles_are_refused_with_the_reason_and_the_remedy(root):
    write(root, dict.fromkeys(("data_batch_1", "test_batch", "batches.meta"), "x"))
    for data in (settings(root), settings(root, format="cifar10")):
        with pytest.raises(UserError, match=r"a pickle can run any code .* cifar-10-binary\.tar\.gz"):
            describe("train", data)


def test_a_missing_split_and_a_wrong_list_of_names_are_refused(root):
    write(root, {"data_batch_1.bin": batch(1, 1)})
    with pytest.raises(UserError, match=r"holds no test_batch\.bin of CIFAR-10's binary version"):
        describe("test", settings(root, root))
    write(root, {"batches.meta.txt": "cat\ndog\n"})
    with pytest.raises(UserError, match=r"batches\.meta\.txt: must name 10 classes, one a line"):
        describe("train", settings(root, root))
