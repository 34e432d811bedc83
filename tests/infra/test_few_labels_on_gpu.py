"""Label sets of CIFAR-10 in chunks: rehearsed to the last line, and what a chunk leaves the next one goes on from."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from without_ray import run_without_ray

from dpt_ray.benchmark.label_sets import without_labels
from dpt_ray.benchmark.label_sets.label_set import LabelSetRow, LabelSets
from dpt_ray.benchmark.label_sets.label_sets_chunk import ROWS_FILE, label_sets_table, run_chunk
from dpt_ray.benchmark.label_sets.label_sets_plan import HEADS, full_plan, tiny_plan
from dpt_ray.benchmark.time_to_quality.cifar import made_up_cifar
from dpt_ray.benchmark.time_to_quality.progress_record import Clock, Folder
from dpt_ray.benchmark.time_to_quality.training import Run
from dpt_ray.experiments.study.images_of_each_class import images_of_each_class
from dpt_ray.networks.pretrained import lite_encoder

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "infra" / "gpu" / "few_labels.py"
CONFIGURATION = str(REPOSITORY / "configs" / "cifar10_minutes.yaml")
needs_lite = pytest.mark.skipif(not lite_encoder.is_installed(), reason="needs the weights of EfficientNet-Lite0")


def script(*options: str) -> subprocess.CompletedProcess[str]:
    return run_without_ray(SCRIPT, *options)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The folder that a rehearsal of the script leaves, which ran without Ray."""
    folder = tmp_path_factory.mktemp("state")
    done = script("--rehearse", "--state", str(folder), "--minutes", "9")
    assert done.returncode == 0, done.stderr
    assert all(f"| {head} | 1 | 1 |" in done.stdout for head in HEADS)
    return folder


def chunk(folder: Path, seconds: float, **changed) -> tuple[list[LabelSetRow], list[str]]:
    said: list[str] = []
    plan = replace(tiny_plan(CONFIGURATION), **changed)
    return run_chunk(
        Run(Folder(str(folder)), "cpu", False, said.append), made_up_cifar(200, "cpu"), plan, Clock(seconds)
    ), said


@needs_lite
def test_the_rehearsal_trains_once_and_has_a_row_for_each_head(state):
    rows = json.loads((state / ROWS_FILE).read_text())
    assert [row["head"] for row in rows] == list(HEADS)
    assert all(0.3 < row["pseudo_labels"] <= 1 for row in rows)
    record = json.loads((state / "record.json").read_text())["stages"]
    assert record["without labels"]["finished"]
    assert all(file.stat().st_size <= without_labels.PART_BYTES for file in state.iterdir())


@needs_lite
def test_a_further_chunk_adds_the_missing_sets_and_repeats_none(state, monkeypatch):
    before = json.loads((state / ROWS_FILE).read_text())
    monkeypatch.setattr(without_labels, "PART_BYTES", 1)  # nothing is trained without labels any more
    rows, _ = chunk(state, 300, seeds=(0, 1))
    assert [row.to_json() for row in rows[:2]] == before
    assert [(row.seed, row.head) for row in rows[2:]] == [(1, head) for head in HEADS]
    again, said = chunk(state, 0, seeds=(0, 1, 2))
    assert again == rows
    assert said[-1] == "the other label sets run in the next chunk"


@needs_lite
def test_a_set_whose_training_is_cut_short_has_no_row(state, monkeypatch):
    before = json.loads((state / ROWS_FILE).read_text())
    monkeypatch.setattr(LabelSets, "_trained", lambda self, *arguments: None)
    rows, said = chunk(state, 300, seeds=(7,))
    assert [row.to_json() for row in rows] == before == json.loads((state / ROWS_FILE).read_text())
    assert said[-1] == "the other label sets run in the next chunk"


@needs_lite
def test_the_generator_travels_in_parts(state, tmp_path, monkeypatch):
    folder = Folder(str(state))
    whole = Path(without_labels.join_generator(folder, tmp_path)).read_bytes()
    for part in state.glob("without_labels.part*"):
        part.rename(tmp_path / part.name)
    for number, first in enumerate(range(0, len(whole), 20_000)):
        folder.write(f"{without_labels.PART}{number:02d}", whole[first : first + 20_000])
    assert Path(without_labels.join_generator(folder, tmp_path)).read_bytes() == whole


def test_without_a_gpu_it_is_one_line(tmp_path):
    done = script("--state", str(tmp_path), "--data", "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "this machine has no GPU" in done.stderr


def test_labelled_images_are_those_of_the_study():
    labels = np.arange(60) % 3
    random = np.random.default_rng(4)
    wanted = np.concatenate([random.permutation(np.flatnonzero(labels == label))[:2] for label in range(3)])
    assert np.array_equal(images_of_each_class(labels, 2, 4), wanted)


def test_the_table_has_paired_gains():
    rows = [
        LabelSetRow(2, seed, "logistic", 0.5 + 0.1 * seed, 0.6 + 0.1 * seed + 0.01 * seed, 0.6, 0.5, 0.7, 9.0, 1.0)
        for seed in range(3)
    ]
    line = label_sets_table(rows).splitlines()[2]
    assert line.startswith("| logistic | 2 | 3 | 70.0% ± 0.0% | 60.0% ± 10.0% | +11.0 (")


def test_the_real_plan_has_five_seeds_and_a_short_training_for_each_set():
    plan = full_plan(CONFIGURATION)
    assert (plan.per_class, len(plan.seeds)) == ((1, 2, 5, 10), 5)
    assert plan.further_images <= 0.25 * plan.generator.images
    assert plan.clusters >= 20
