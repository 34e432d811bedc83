"""Bad input: one clear line within seconds, a failing status, and nothing that passes for finished."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import REPOSITORY, arguments

from dpt_ray.cli.guard import USER_MISTAKE
from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.samples import Sample, build_shard

SOON = 60
"""Seconds; a quiet machine needs a few, the first use of Ray's worker processes among them."""

PIXELS = np.zeros((1, 8, 8), np.uint8)


def _sample(key: str, label: int | str, image: bytes = encode_png(PIXELS)) -> Sample:
    return Sample(key, {"png": image, "cls": str(label).encode()})


WHITE = encode_png(PIXELS + 255)
"""Test images must not be training images."""
GOOD = [_sample(f"image-{n}", n % 2) for n in range(8)]
HELD_OUT = [_sample(f"image-{n}", n % 2, WHITE) for n in range(8)]


@pytest.fixture
def shards(tmp_path):
    """Write training and test shards; return the settings that name them."""

    def write(*train: bytes) -> list[str]:
        for split, contents in (("train", train), ("test", [build_shard(HELD_OUT)])):
            (tmp_path / split).mkdir(exist_ok=True)
            for number, content in enumerate(contents):
                (tmp_path / split / f"{number}.tar").write_bytes(content)
        return [f"data.{split}={tmp_path / split}" for split in ("train", "test")] + ["data.num_classes=2"]

    return write


def _complaint(capsys, root: Path, *settings: str, target=lambda run: [run.labelled]) -> str:
    began = time.monotonic()
    status = run_job("test", target, arguments=arguments(root, *settings))
    seconds = time.monotonic() - began
    told = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in told if line.startswith("error: ")]
    assert status == USER_MISTAKE, told
    assert len(errors) == 1, told
    assert told[-1] == errors[0]
    assert not any("Traceback" in line for line in told)
    assert seconds < SOON
    return errors[0]


def _nothing_finished(root: Path, step: str) -> bool:
    return not list(root.glob(f"{step}/*/manifest.json"))


def test_a_missing_folder(tmp_path, capsys):
    told = _complaint(capsys, tmp_path / "r", f"data.train={tmp_path}/nowhere", f"data.test={tmp_path}")
    assert told.startswith(f"error: {tmp_path}/nowhere: does not exist; give a folder")


def test_a_folder_without_shards(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    told = _complaint(capsys, tmp_path / "r", f"data.train={tmp_path}", f"data.test={tmp_path}")
    assert "holds no shards (*.tar)" in told


def test_a_shard_of_no_bytes(tmp_path, capsys, shards):
    assert "1.tar: is an empty shard" in _complaint(capsys, tmp_path / "r", *shards(build_shard(GOOD), b""))


DAMAGED_IMAGE = _sample("broken", 0, image=encode_png(PIXELS)[:40])
WHOLE = build_shard(GOOD)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([WHOLE, build_shard([])], "1.tar: is an empty shard"),
        ([WHOLE, WHOLE], "1.tar"),
        ([WHOLE, build_shard([DAMAGED_IMAGE])], "1.tar: sample 'broken': is not a readable image"),
        ([WHOLE, build_shard([_sample("x", "cat")])], "1.tar: sample 'x': its .cls file must hold a class id >= 0"),
        ([WHOLE, build_shard([Sample("x", {"cls": b"1"})])], "1.tar: sample 'x': has no image file (found: cls)"),
        ([WHOLE, WHOLE[:2048]], "1.tar: is not a complete tar archive"),
        (
            [build_shard([*GOOD, _sample("x", 7)])],
            "0.tar: sample 'x': has the class id 7 but there are 2 classes",
        ),
        (
            [build_shard([*GOOD, _sample("x", 300_000_000)])],
            "0.tar: sample 'x': its .cls file holds the class id 300000000; at most 999,999 is read",
        ),
    ],
    ids=["empty tar", "key in two shards", "unreadable image", "label", "no image", "truncated", "class id", "number"],
)
def test_damaged_shards_are_named_and_leave_no_index(tmp_path, capsys, shards, train, expected):
    root = tmp_path / "results"
    assert expected in _complaint(capsys, root, *shards(*train))
    assert _nothing_finished(root, "dataset")
    # Once the data is mended, the same command works.
    mended = shards(WHOLE, build_shard([_sample(f"other-{n}", n % 2) for n in range(4)]))
    settings = [*mended, "labels.per_class=2"]
    assert run_job("test", lambda run: [run.labelled], arguments=arguments(root, *settings)) == 0


@pytest.mark.usefixtures("local_ray")
def test_the_key_in_two_shards_is_named_with_both(tmp_path, capsys, shards):
    told = _complaint(capsys, tmp_path / "r", *shards(WHOLE, build_shard([_sample("y", 0), GOOD[3]])))
    assert "the key 'image-3' is also in" in told
    assert "0.tar" in told
    assert "1.tar" in told


@pytest.mark.usefixtures("local_ray")
def test_test_images_that_are_training_images_end_every_job_before_anything_trains(tmp_path, capsys, shards):
    root, settings = tmp_path / "results", shards(WHOLE)
    copied = _sample("copy", 0)
    (tmp_path / "test" / "0.tar").write_bytes(build_shard([*HELD_OUT, copied]))
    settings.append("labels.per_class=2")
    for target in (lambda run: [run.classifier], lambda run: [run.evaluation]):
        told = _complaint(capsys, root, *settings, target=target)
        assert "data.test: 1 of 9 test images has the very pixels of a training image" in told
        assert "(test image 'copy' is training image 'image-0'; all are listed in" in told
        assert "set data.on_overlap=report" in told
    assert _nothing_finished(root, "classifier")
    assert _nothing_finished(root, "overlap")
    wanted = arguments(root, *settings, "data.on_overlap=report")
    for _ in range(2):
        assert run_job("test", lambda run: [run.overlap], arguments=wanted) == 0
        assert "1 of 9 test images has the very pixels" in capsys.readouterr().out
    assert "data.test: 1 of 9 test images" in _complaint(capsys, root, *settings)  # what is made already, too


@pytest.mark.usefixtures("local_ray")
def test_class_ids_with_nothing_between_them_are_refused_unless_their_number_is_given(tmp_path, capsys, shards):
    root, settings = tmp_path / "results", shards(build_shard([*GOOD, _sample("x", 119_789)]))
    settings = [setting for setting in settings if "num_classes" not in setting]
    told = _complaint(capsys, root, *settings, "data.num_classes=null")
    assert "0.tar: sample 'x': has the class ids 0, 1, 119789, which leave 119,787 of the 119,790 ids" in told
    assert "list every class in data.class_file" in told
    wanted = arguments(root, *settings, "data.num_classes=200000")
    assert run_job("test", lambda run: [run.train_data], arguments=wanted) == 0


@pytest.mark.usefixtures("local_ray")
def test_classes_that_differ_are_told_before_anything_trains(tmp_path, capsys, shards):
    root = tmp_path / "results"
    settings = [setting for setting in shards(WHOLE) if "num_classes" not in setting]
    everything = {"target": lambda run: run.steps()}
    (tmp_path / "test" / "0.tar").write_bytes(build_shard([*HELD_OUT, _sample("third", 2, WHITE)]))
    told = _complaint(capsys, root, *settings, "data.num_classes=null", "labels.per_class=2", **everything)
    assert "test/0.tar: sample 'third': has the class id 2 but the training data has 2 classes (ids 0 to 1)" in told
    assert "set data.num_classes" in told
    told = _complaint(capsys, root, *settings, "data.num_classes=3", "labels.per_class=2", **everything)
    assert "labels: no image of class '2', one of 3; set data.num_classes" in told
    assert _nothing_finished(root, "classifier")
    # Held-out images need not show every class.
    (tmp_path / "test" / "0.tar").write_bytes(build_shard([_sample("first", 0, WHITE)]))
    settings += ["data.num_classes=null", "labels.per_class=2"]
    assert run_job("test", lambda run: [run.test_data], arguments=arguments(root, *settings)) == 0


@pytest.mark.usefixtures("local_ray")
def test_labels_that_do_not_exist(tmp_path, capsys, shards):
    root, settings = tmp_path / "results", shards(WHOLE)
    told = _complaint(capsys, root, *settings, "labels.per_class=5")
    assert "5 labelled images of class '0' are requested, and it has 4; lower labels.per_class" in told
    listed = tmp_path / "listed.txt"
    by_file = [*settings, "labels.per_class=null", f"labels.file={listed}"]
    listed.write_text("image-0\nimage-99\n")
    assert "listed.txt: names 'image-99', which the training data lacks" in _complaint(capsys, root, *by_file)
    listed.write_text("image-0\nimage-2\n")
    told = _complaint(capsys, root, *by_file, "data.class_names=[cat, dog]")
    assert "no labelled image of 1 of 2 classes, first 'dog'" in told
    listed.unlink()
    assert "listed.txt: does not exist" in _complaint(capsys, root, *by_file)
    assert _nothing_finished(root, "labelled_subset")


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    told = _complaint(capsys, tmp_path / "file" / "results")
    assert "cannot be written" in told


def test_a_cluster_that_cannot_be_reached(tmp_path):
    import subprocess
    import sys

    command = [sys.executable, str(REPOSITORY / "jobs" / "prepare_data.py"), *arguments(tmp_path)]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    began = time.monotonic()
    job = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert job.returncode == USER_MISTAKE, job.stderr
    assert job.stderr.strip().splitlines()[-1].startswith("error: RAY_ADDRESS=127.0.0.1:1: no Ray cluster")
    assert time.monotonic() - began < 60


@pytest.mark.usefixtures("local_ray")
def test_more_workers_than_the_cluster_has_cpus_for(tmp_path, capsys):
    told = _complaint(capsys, tmp_path, "cluster.cpus_per_worker=3", target=lambda run: [run.classifier])
    assert "3.25 CPUs are needed but the cluster has 2; lower cluster.workers" in told


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_is_damaged_after_indexing_stops_the_training_and_names_it(tmp_path, capsys, shards):
    root = tmp_path / "results"
    settings = [*shards(WHOLE), "labels.per_class=2"]
    assert run_job("test", lambda run: [run.labelled], arguments=arguments(root, *settings)) == 0
    shard = tmp_path / "train" / "0.tar"
    stamp = shard.stat()
    content = bytearray(shard.read_bytes())
    content[600] ^= 255
    shard.write_bytes(content)
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as bit rot does, not as an edit
    told = _complaint(capsys, root, *settings, target=lambda run: [run.classifier])
    assert "0.tar: its content differs from its index (checksum)" in told
    assert _nothing_finished(root, "classifier")
