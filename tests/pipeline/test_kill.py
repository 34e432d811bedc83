"""SIGKILL in training and in sampling: the same command goes on and ends with the same results. Ctrl-C says so."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_runs import IN_A_WORKER, artifact, described, files, start_job

from dpt_ray.cli.guard import INTERRUPTED
from dpt_ray.distributed.checkpoints import list_checkpoints
from dpt_ray.pipeline.runs import list_runs

OFTEN_ENOUGH_TO_KILL = "cluster.checkpoint_seconds=0.5"
DEADLINE_SECONDS = 240


def _kill_when(process: subprocess.Popen, happened, kind=signal.SIGKILL) -> str:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert process.poll() is None, f"the job ended before it could be killed:\n{process.stdout.read()}"
        assert time.monotonic() < deadline, "nothing to kill came about"
        time.sleep(0.02)
    process.send_signal(kind)
    return process.communicate()[0]


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        (signal.SIGINT, 0),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_says_how_to_go_on_and_fails(tmp_path, kind, workers):
    _, run = described(tmp_path)
    training = tmp_path / run.classifier.name / run.classifier.fingerprint
    job = start_job("sample", tmp_path, f"cluster.workers={workers}", OFTEN_ENOUGH_TO_KILL)
    output = _kill_when(job, lambda: list_checkpoints(str(training)), kind)
    assert output.endswith("interrupted: run the same command again to resume\n")
    assert job.returncode == INTERRUPTED
    (recorded,) = list_runs(str(tmp_path))
    assert recorded.state == "interrupted"


@pytest.mark.slow
def test_a_killed_run_leaves_its_folder_and_is_stopped(tmp_path):
    _, run = described(tmp_path)
    training = tmp_path / run.classifier.name / run.classifier.fingerprint
    job = start_job("sample", tmp_path, IN_A_WORKER, OFTEN_ENOUGH_TO_KILL)
    _kill_when(job, lambda: _has_checkpoint(training))
    (stopped,) = list_runs(str(tmp_path))
    assert stopped.state == "stopped"
    rows = [json.loads(line) for line in Path(stopped.url, "metrics.jsonl").read_text().splitlines()]
    assert any("loss" in row["values"] for row in rows)
    assert "stage 1 classifier" in Path(stopped.url, "log.txt").read_text()


def _has_checkpoint(training: Path) -> bool:
    """Whether Ray Train has put a checkpoint on its list."""
    ray_list = training / "checkpoints" / "checkpoint_manager_snapshot.json"
    return ray_list.exists() and "images_" in ray_list.read_text()


def _listed(training: Path) -> list[str]:
    """The checkpoints on Ray Train's list, oldest first."""
    ray_list = training / "checkpoints" / "checkpoint_manager_snapshot.json"
    try:
        return [entry["checkpoint_dir_name"] for entry in json.loads(ray_list.read_text())["checkpoint_results"]]
    except (OSError, ValueError):  # not there yet, or being written
        return []


@pytest.mark.slow
def test_a_killed_training_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(tmp_path):
    settings = [IN_A_WORKER, "stage1.images=128000", "cluster.checkpoint_seconds=0.3"]
    _, run = described(tmp_path, *settings)
    training = tmp_path / run.classifier.name / run.classifier.fingerprint
    _kill_when(start_job("train_classifier", tmp_path, *settings), lambda: len(_listed(training)) == 2)
    before, newest = (training / "checkpoints" / name / "state.safetensors" for name in _listed(training))
    for later in list_checkpoints(str(training)):  # one that was stored and is not listed yet
        if later > newest.parent.name:
            shutil.rmtree(training / "checkpoints" / later)
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])

    output, _ = (job := start_job("train_classifier", tmp_path, *settings)).communicate(timeout=DEADLINE_SECONDS)
    assert job.returncode == 0, output
    assert f"checkpoint {newest.parent.name} is damaged (the checksum of its" in output
    assert f"goes on from {int(before.parent.name[7:22]):,} images" in output
    assert artifact(tmp_path, run.classifier).facts["images_seen"] == 128000


def _finish(root: Path) -> str:
    process = start_job("sample", root)
    output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def killed_twice(tmp_path_factory):
    """The root of a run killed in training and in sampling; the output of the attempt between, and of the last."""
    root = tmp_path_factory.mktemp("killed")
    _, run = described(root)
    training = root / run.classifier.name / run.classifier.fingerprint
    shards = root / run.pseudo_images.name / run.pseudo_images.fingerprint / "shards"

    job = start_job("sample", root, IN_A_WORKER, OFTEN_ENOUGH_TO_KILL)
    _kill_when(job, lambda: _has_checkpoint(training))
    assert not (training / "manifest.json").exists()

    job = start_job("sample", root, OFTEN_ENOUGH_TO_KILL)
    second_attempt = _kill_when(job, lambda: list(shards.glob("*.tar")))
    survivors = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.tar")}
    assert len(survivors) < 6
    assert not (shards.parent / "manifest.json").exists()

    output = _finish(root)
    return root, second_attempt, survivors, output


@pytest.mark.slow
def test_the_killed_training_went_on_from_a_checkpoint(killed_twice):
    root, second_attempt, _, _ = killed_twice
    assert "stage 1 classifier: goes on from" in second_attempt
    _, run = described(root)
    assert artifact(root, run.classifier).facts["images_seen"] == 32000


@pytest.mark.slow
def test_finished_shards_of_the_killed_sampling_were_kept(killed_twice):
    root, _, survivors, output = killed_twice
    _, run = described(root)
    shards = Path(artifact(root, run.pseudo_images).url) / "shards"
    assert {name: (shards / name).stat().st_mtime_ns for name in survivors} == survivors
    assert "stage 2 generator: already made" in output


@pytest.mark.slow
def test_the_results_are_those_of_an_undisturbed_run(killed_twice, finished):
    _, run = described(finished)
    for step, pattern in [
        (run.classifier, "network.safetensors"),
        (run.classifier, "history.json"),
        (run.pseudo_labels, "predictions/*.parquet"),
        (run.generator, "network.safetensors"),
        (run.pseudo_images, "shards/*.tar"),
    ]:
        expected = files(artifact(finished, step), pattern)
        assert expected
        assert files(artifact(killed_twice[0], step), pattern) == expected, (step.title, pattern)
