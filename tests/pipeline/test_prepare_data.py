"""From a folder of class folders to an index of shards: both policies, a kill in the middle, and what is told."""

import csv
import io
import json
import os
import shutil
import signal
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import arguments, artifact, described, files, start_job

from dpt_ray.cli.guard import USER_MISTAKE
from dpt_ray.cli.job import run_job
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.skipped import read_skipped
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.data_summary import summarise_data

CLASSES = ("ant", "bee", "cat")
DEADLINE_SECONDS = 240


def write_image(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def class_folders(root: Path) -> list[str]:
    """Write 8 training and 2 test images of each class; return the settings that name them."""
    for split, count in (("train", 8), ("test", 2)):
        for name in CLASSES:
            for number in range(count):
                seed = zlib.crc32(f"{split}/{name}/{number}".encode())  # no test image is a training image
                write_image(root / split / name / f"{name}-{number}.png", (9 + number, 12), seed)
    return [f"data.{split}={root / split}" for split in ("train", "test")] + SETTINGS


SETTINGS = ["data.num_classes=null", "data.images_per_shard=10", "labels.per_class=2"]


def prepare(root: Path, *settings: str, target=None) -> int:
    """Run `prepare_data`, or another target, in this process; return the exit status."""
    if target is not None:
        return run_job("test", target, arguments=arguments(root, *settings))
    return run_job("test", lambda run: [run.train_data, run.test_data], summarise_data, arguments(root, *settings))


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.tar")}


@pytest.mark.usefixtures("local_ray")
def test_class_folders_serve_the_pipeline_straight_away(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    assert prepare(root, *settings, target=lambda run: [run.labelled]) == 0
    _, run = described(root, *settings)
    labelled = read_labelled(artifact(root, run.labelled))
    assert [image.label for image in sorted(labelled, key=lambda i: i.label)] == [0, 0, 1, 1, 2, 2]
    assert all(image.key.startswith(f"{CLASSES[image.label]}/") for image in labelled)
    index = read_index(artifact(root, run.train_data).url)
    assert [shard.samples for shard in index.shards] == [10, 10, 4]
    assert index.class_counts == (8, 8, 8)
    facts = artifact(root, run.train_data.imported).facts
    assert facts["class_names"] == list(CLASSES)
    assert facts["images_per_class"] == [8, 8, 8]
    assert facts["sizes"] == {"smallest": [12, 9], "median": [12, 12], "largest": [12, 16]}
    capsys.readouterr()
    assert prepare(root, *settings) == 0
    told = capsys.readouterr().out
    for line in ("images          24", "width x height  12x9 to 12x16, median 12x12", "1  bee           8     2"):
        assert line in told
    assert "already made (24 images in 3 shards)" in told


@pytest.mark.usefixtures("local_ray")
def test_broken_files_end_the_job_or_are_listed(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    train = tmp_path / "data" / "train"
    (train / "ant" / "broken.jpg").write_bytes(b"no image")
    (train / "ant" / "empty.png").write_bytes(b"")
    (train / "notes.txt").write_text("x")

    assert prepare(root, *settings) == USER_MISTAKE
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert (
        f"{train}/ant/broken.jpg: is not a readable image" in complaint
        or f"{train}/ant/empty.png: is empty" in complaint
    )
    assert complaint.endswith("set data.on_error=skip to go on without")
    assert not list(root.glob("shards/*/manifest.json"))

    skip = [*settings, "data.on_error=skip"]
    assert prepare(root, *skip, "data.max_skipped_share=0.05") == USER_MISTAKE
    assert "2 of 26 images cannot be used, more than the share of 0.05" in capsys.readouterr().err
    assert prepare(root, *skip, "data.max_skipped_share=0.1") == 0
    told = capsys.readouterr().out

    _, run = described(root, *settings)
    shards = artifact(root, run.train_data.imported)
    listed = list(csv.DictReader(io.StringIO((Path(shards.url) / "left_out.csv").read_text())))
    assert {(row["what"], Path(row["file"]).name) for row in listed} == {
        ("refused", "broken.jpg"),
        ("refused", "empty.png"),
        ("ignored", "notes.txt"),
    }
    assert len(read_skipped(shards.facts)) == 2
    assert "refused: 2 of 26 images (listed in " in told
    assert f"    {train}/ant/empty.png: is empty" in told
    assert "    notes.txt: not an image by its name" in told

    # What was made while losses were tolerated is no way around the policy.
    assert prepare(root, *settings) == USER_MISTAKE


@pytest.mark.usefixtures("local_ray")
def test_a_class_that_loses_all_its_images_is_an_error_that_names_it(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    skip = [*settings, "data.on_error=skip", "data.max_skipped_share=0.9"]
    for image in (tmp_path / "data" / "train" / "bee").iterdir():
        image.write_bytes(b"no image")
    assert prepare(root, *skip) == USER_MISTAKE
    assert f"{tmp_path}/data/train: all images of the class 'bee' had to be left out" in capsys.readouterr().err
    assert not list(root.glob("shards/*/manifest.json"))

    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    for split in ("train", "test"):
        samples = [
            Sample(
                f"{split}-{number}", {"png": picture.getvalue() if number % 3 else b"bad", "cls": b"%d" % (number % 3)}
            )
            for number in range(9)
        ]
        stores.write_bytes(str(tmp_path / "shards" / split / "0.tar"), build_shard(samples))
        (tmp_path / "shards" / split / "1.tar.gz").touch()
    skip[:2] = [f"data.{split}={tmp_path / 'shards' / split}" for split in ("train", "test")]
    assert prepare(root, *skip) == USER_MISTAKE
    said = capsys.readouterr()
    assert f"{tmp_path}/shards/train: all images of the class 0 had to be left out" in said.err
    assert not list(root.glob("dataset/*/manifest.json"))


@pytest.mark.usefixtures("local_ray")
def test_what_is_left_out_stands_in_the_line_of_each_step(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    for split in ("train", "test"):
        (tmp_path / "data" / split / "ant" / "._ant.png").touch()
    os.mkfifo(tmp_path / "data" / "train" / "bee" / "pipe.png")
    assert prepare(root, *settings, target=lambda run: [run.train_data, run.test_data]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " shards: done in " in line]
    hidden = "ant/._ant.png (hidden))"  # after what somebody may miss
    assert (
        "24 images in 3 shards; ignored: bee/pipe.png (is a named pipe, which is never opened), " + hidden in lines[0]
    )
    assert f"6 images in 1 shards; ignored: {hidden}" in lines[1]
    (tmp_path / "data" / "train" / "notes.txt").write_text("added afterwards, which changes no address")
    assert prepare(root, *settings, target=lambda run: [run.train_data, run.test_data]) == 0
    assert "already made (24 images in 3 shards; ignored: " in (out := capsys.readouterr().out)
    assert "notes.txt (not an image by its name)" in out


@pytest.mark.usefixtures("local_ray")
def test_images_that_could_not_be_fetched_are_fetched_by_the_next_try(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    _, run = described(root, *settings)
    hidden = tmp_path / "data" / "train" / "bee" / "bee-3.png"
    stamp, content = hidden.stat(), hidden.read_bytes()

    def vanish(run):
        hidden.unlink(missing_ok=True)  # after the listing
        return [run.train_data]

    for policy in ([], ["data.on_error=skip", "data.max_skipped_share=0.01"]):
        assert prepare(root, *settings, *policy, target=vanish) == USER_MISTAKE
        assert "bee-3.png: does not exist" in capsys.readouterr().err
        hidden.write_bytes(content)
        os.utime(hidden, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert prepare(root, *settings) == 0
    assert artifact(root, run.train_data).facts["images"] == 24


@pytest.mark.usefixtures("local_ray")
def test_a_table_that_names_none_of_the_images_is_refused(tmp_path, capsys):
    settings, root, table = class_folders(tmp_path / "data"), tmp_path / "results", tmp_path / "labels.csv"
    table.write_text("file,label\nnone.png,ant\n")
    by_table = [*settings, f"data.train_labels={table}", f"data.test_labels={table}"]
    assert prepare(root, *by_table) == USER_MISTAKE
    assert f"{table}: sample 'none.png': line 2 names a file that does not exist" in capsys.readouterr().err
    assert prepare(root, *by_table, "data.on_error=skip", "data.max_skipped_share=1") == USER_MISTAKE
    assert "holds no image that can be used" in capsys.readouterr().err


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_was_removed_before_the_end_is_written_again(tmp_path):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    assert prepare(root, *settings) == 0
    _, run = described(root, *settings)
    before = tree(root)
    made = Path(artifact(root, run.train_data.imported).url)
    (made / "manifest.json").unlink()
    (made / "shards" / "00001.tar").unlink()
    (made / "shards" / "00002.tar").write_bytes(b"cut")
    assert prepare(root, *settings) == 0
    assert tree(root) == before


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_is_missing_after_the_end_is_written_again_with_a_warning(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    assert prepare(root, *settings, target=lambda run: [run.train_data.imported]) == 0
    _, run = described(root, *settings)
    shard = Path(artifact(root, run.train_data.imported).url) / "shards" / "00001.tar"
    content = shard.read_bytes()
    shard.unlink()
    shutil.rmtree(root / "dataset")  # every job indexes both splits, to compare their images
    capsys.readouterr()
    assert prepare(root, *settings) == 0
    assert "is missing (shards/00001.tar)" in capsys.readouterr().out
    assert shard.read_bytes() == content


def _kill_when(process, happened) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert process.poll() is None, f"the job ended before it could be killed:\n{process.stdout.read()}"
        assert time.monotonic() < deadline, "nothing to kill came about"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(tmp_path):
    given = [setting for setting in class_folders(tmp_path / "data") if "images_per_shard" not in setting]
    settings = [*given, "data.images_per_shard=3", "data.prepare_size=8"]
    large = tmp_path / "large.jpg"
    write_image(large, (1000, 1000))  # takes a while to decode, so that there is a middle to kill in
    for name in CLASSES:
        for number in range(16):
            (tmp_path / "data" / "train" / name / f"large-{number}.jpg").hardlink_to(large)

    root = tmp_path / "killed"
    _, run = described(root, *settings)
    folder = root / "shards" / run.train_data.imported.fingerprint
    _kill_when(start_job("prepare_data", root, *settings), lambda: len(list(folder.glob("records/*.json"))) >= 2)
    assert not (folder / "manifest.json").exists()
    survivors = {path: path.stat().st_mtime_ns for path in folder.glob("records/*.json")}
    assert 2 <= len(survivors) < 24

    job = start_job("prepare_data", root, *settings, "cluster.inference_workers=1")
    output, _ = job.communicate(timeout=DEADLINE_SECONDS)
    assert job.returncode == 0, output
    assert {path: path.stat().st_mtime_ns for path in survivors} == survivors
    assert "images in each of 3 classes" in output

    undisturbed = tmp_path / "undisturbed"
    assert prepare(undisturbed, *settings) == 0
    assert len(tree(undisturbed)) == 24 + 2
    assert tree(root) == tree(undisturbed)
    for split in (run.train_data, run.test_data):
        one, other = (artifact(place, split.imported) for place in (root, undisturbed))
        assert one.facts == other.facts
        assert files(one, "records/*.json") == files(other, "records/*.json")


def test_a_dry_run_looks_at_the_data_and_writes_nothing(tmp_path, capsys):
    settings, root = class_folders(tmp_path / "data"), tmp_path / "results"
    assert run_job("test", lambda run: [run.train_data], arguments=[*arguments(root, *settings), "--dry-run"]) == 0
    assert f"writing {tmp_path}/data/train (class_folders) as shards" in capsys.readouterr().out
    assert not list(root.rglob("*.*"))


def test_kinds_of_data_that_are_refused_are_refused_before_ray_starts(tmp_path, capsys):
    write_image(tmp_path / "loose" / "1.png", (8, 8))
    (tmp_path / "pickled").mkdir()
    for name in ("batches.meta", "data_batch_1"):
        (tmp_path / "pickled" / name).write_text(json.dumps(name))
    for folder, complaint in (("loose", "holds images but no class folders"), ("pickled", "a pickle can run any code")):
        place = tmp_path / folder
        assert prepare(tmp_path / "results", f"data.train={place}", f"data.test={place}") == USER_MISTAKE
        assert complaint in capsys.readouterr().err


def write_deep(path: Path, largest: int, side: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, largest, side * side).reshape(side, side)
    Image.fromarray(values.astype(np.uint16)).save(path)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("prepared", [(), ("data.prepare_size=8",)])
def test_all_16_bit_images_of_both_splits_get_one_level_of_white_and_it_is_told(prepared, tmp_path, capsys):
    for split, levels in (("train", (1000, 3900)), ("test", (900, 1000))):
        for name in CLASSES:
            for number, largest in enumerate(levels):
                write_deep(tmp_path / split / name / f"{number}.png", largest)
    places = [f"data.{split}={tmp_path / split}" for split in ("train", "test")]
    small = ["data.num_classes=null", "data.images_per_shard=2", "data.image_size=8", "data.channels=1"]
    small.append("data.on_overlap=report")  # one picture stands in both splits
    settings = [*places, *small, *prepared]
    root = tmp_path / "results"
    assert prepare(root, *settings) == 0
    told = capsys.readouterr().out
    for images, largest in ((6, "3,900"), (6, "1,000")):
        level = f"of which 12 are used: values go up to {largest}, and 4,095 becomes 255"
        assert f"{images} images of 16 bits, {level}" in told
    config, run = described(root, *settings)
    for step, levels in ((run.train_data, (1000, 3900)), (run.test_data, (900, 1000))):
        index = read_index(artifact(root, step).url)
        brightest = []
        for shard in index.shards:
            form = image_form(config.data)
            (block,) = read_rows(SourceShard(shard), range(shard.samples), form, new_arrays(form, 9))
            brightest += block["image"].max((1, 2, 3)).tolist()
        expected = [largest // 16 for largest in levels] * 3
        assert np.abs(np.sort(brightest) - np.sort(expected)).max() <= 20  # of four or more pixels the mean
        assert index.white == 4095
    made = tree(root)
    assert prepare(root, *settings) == 0
    assert tree(root) == made
