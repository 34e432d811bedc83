"""CIFAR-10 with 40 labels in chunks: rehearsed to the last line, and what a chunk leaves the next one goes on from."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from without_ray import run_without_ray

from dpt_ray.benchmark.time_to_quality import chunk, stages
from dpt_ray.benchmark.time_to_quality.chunk import STAGES, quality_table, run_chunk
from dpt_ray.benchmark.time_to_quality.cifar import made_up_cifar, read_cifar
from dpt_ray.benchmark.time_to_quality.plan import CANDIDATES, PATIENCE, full_plan, tiny_plan
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder, Progress, Row, Stage
from dpt_ray.benchmark.time_to_quality.training import Run
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.errors import UserError

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "infra" / "gpu" / "time_to_quality.py"
CONFIGURATION = str(REPOSITORY / "configs" / "cifar10_minutes.yaml")


def script(*options: str) -> subprocess.CompletedProcess[str]:
    return run_without_ray(SCRIPT, *options)


def test_the_script_runs_every_stage_without_ray_and_prints_the_table(tmp_path):
    done = script("--rehearse", "--state", str(tmp_path), "--minutes", "9")
    assert done.returncode == 0, done.stderr
    for name in STAGES:
        assert f"| {name} |" in done.stdout
    assert "not finished" not in done.stdout
    progress = json.loads((tmp_path / "record.json").read_text())["stages"]
    assert [row["images"] for row in progress["classifier"]["rows"]] == [240, 480, 720, 960]
    assert progress["generator"]["choice"] == progress["contest"]["choice"]
    assert load_file(tmp_path / "pseudo_images.safetensors")["images"].shape == (30, 3, 32, 32)
    again = script("--rehearse", "--state", str(tmp_path), "--minutes", "9")
    assert again.stdout == done.stdout  # all is finished, and nothing is done twice


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--stages", "clasifier"], "there is no stage clasifier"),
        (["--rehearse", "--stages", "sample"], "generator.safetensors is missing"),
        (["--rehearse", "--stages", "generator"], "classifier.safetensors is missing"),
    ],
)
def test_what_is_missing_is_one_line(tmp_path, options, told):
    done = script("--state", str(tmp_path), *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_refuses(tmp_path):
    done = script("--state", str(tmp_path))
    assert done.returncode == 2
    assert "no GPU" in done.stderr


class Steps:
    """A time that goes on by four seconds each time that it is asked for."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 4.0
        return self.now


def run_in(folder: Path, lines: list[str]) -> Run:
    return Run(Folder(str(folder)), "cpu", False, lines.append)


def test_a_classifier_that_goes_on_in_chunks_is_that_of_one_chunk(tmp_path):
    data, plan = made_up_cifar(100, "cpu"), tiny_plan(CONFIGURATION)
    lines: list[str] = []
    whole = run_chunk(run_in(tmp_path / "whole", lines), data, plan, ("classifier",), Clock(600))
    assert whole.stage("classifier").finished
    chunks = 0
    while True:
        clock = Clock(stages.SAVING_SECONDS * 2 + 12, Steps())  # a few steps
        progress = run_chunk(run_in(tmp_path / "chunks", lines), data, plan, ("classifier",), clock)
        chunks += 1
        if progress.stage("classifier").finished:
            break
        assert "(not finished)" in quality_table(progress)
    assert chunks > 2
    rows = [[(row.images, row.score) for row in each.stage("classifier").rows] for each in (whole, progress)]
    assert rows[0] == rows[1]
    files = [(tmp_path / name / "classifier.safetensors").read_bytes() for name in ("whole", "chunks")]
    assert files[0] == files[1]


def test_a_stage_for_which_no_time_is_left_does_not_begin(tmp_path):
    lines: list[str] = []
    plan = tiny_plan(CONFIGURATION)
    progress = run_chunk(run_in(tmp_path, lines), made_up_cifar(50, "cpu"), plan, STAGES, Clock(5))
    assert lines == ["classifier: no time is left in this chunk"]
    assert not progress.stage("classifier").rows


def test_the_contest_leaves_time_for_the_training_and_the_training_for_sampling():
    clock = Clock(1000, lambda: 0.0)
    assert chunk._time_of("contest", STAGES, clock).left == pytest.approx(300)
    assert chunk._time_of("generator", STAGES, clock).left == pytest.approx(850)
    assert chunk._time_of("generator", ("generator",), clock).left == pytest.approx(1000)


def test_accuracy_that_no_longer_rises_ends_a_stage():
    plan = tiny_plan(CONFIGURATION)
    rising = Stage(rows=[Row(0, number, number / 100) for number in range(PATIENCE + 5)])
    assert not plan.no_longer_rises(rising)
    flat = Stage(rows=[Row(0, number, min(number, 3) / 100) for number in range(PATIENCE + 5)])
    assert plan.no_longer_rises(flat)


def test_labelled_images_are_few_of_each_class_and_the_same_in_every_chunk():
    data = made_up_cifar(200, "cpu")
    chosen = data.labelled(4)
    assert np.bincount(data.labels[chosen]).tolist() == [4] * 10
    assert np.array_equal(chosen, made_up_cifar(200, "cpu").labelled(4))


def test_the_binary_version_of_cifar_is_read(tmp_path):
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.arange(20) % 10
    records[:, 1:] = np.arange(20)[:, None]
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records[:12].tofile(folder / "data_batch_1.bin")
    records[12:16].tofile(folder / "data_batch_2.bin")
    records[16:].tofile(folder / "test_batch.bin")
    data = read_cifar(str(tmp_path), "cpu")
    assert data.images.shape == (16, 3, 32, 32)
    assert data.labels.tolist() == [*range(10), *range(6)]
    assert data.images[13, 2, 31, 31] == 13
    assert data.test_labels.tolist() == [6, 7, 8, 9]
    (folder / "data_batch_2.bin").write_bytes(b"short")
    with pytest.raises(UserError, match="no records of 3073 bytes"):
        read_cifar(str(tmp_path), "cpu")
    with pytest.raises(UserError, match="cifar-10-binary"):
        read_cifar(str(tmp_path / "nowhere"), "cpu")


def test_the_real_plan_has_the_sizes_that_it_names():
    plan = full_plan(CONFIGURATION)
    assert plan.stage1.images == 2**17 * 512
    assert plan.candidates.keys() == CANDIDATES.keys()
    for name, config in plan.candidates.items():
        with torch.device("meta"):
            network = build_generator(config, image_size=32, channels=3, num_classes=10)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert f"of {round(millions)} million" in name
        assert config.label_dropout > 0  # the plan samples with guidance


def test_a_record_comes_back(tmp_path):
    folder = Folder(str(tmp_path))
    progress = Progress("cpu")
    progress.stage("classifier").rows.append(Row(1.0, 2, 0.5))
    folder.write_progress(progress)
    assert folder.progress("cpu") == progress
