"""SIGKILL in training and in sampling: the same command goes on and ends with the same results. Ctrl-C says so."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_runs import artifact, described, files, start_job

from dpt_ray.pipeline.jobs import INTERRUPTED

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


@pytest.mark.slow
def test_an_interrupted_training_says_how_to_go_on_and_fails(tmp_path):
    _, run = described(tmp_path)
    training = tmp_path / run.classifier.name / run.classifier.fingerprint
    job = start_job("sample", tmp_path, OFTEN_ENOUGH_TO_KILL)
    output = _kill_when(job, lambda: _has_checkpoint(training), signal.SIGINT)
    assert output.endswith("interrupted: the same command goes on from here\n")
    assert job.returncode == INTERRUPTED


def _has_checkpoint(training: Path) -> bool:
    """Whether Ray Train has put a checkpoint on its list."""
    ray_list = training / "checkpoints" / "checkpoint_manager_snapshot.json"
    return ray_list.exists() and "images_" in ray_list.read_text()


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

    job = start_job("sample", root, OFTEN_ENOUGH_TO_KILL)
    _kill_when(job, lambda: _has_checkpoint(training))
    assert not (training / "manifest.json").exists()

    job = start_job("sample", root, OFTEN_ENOUGH_TO_KILL)
    second_attempt = _kill_when(job, lambda: list(shards.glob("*.tar")))
    survivors = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.tar")}
    assert len(survivors) < 6
    assert not (shards.parent / "manifest.json").exists()

    output = _finish(root)
    return root, second_attempt, survivors, output


def test_the_killed_training_went_on_from_a_checkpoint(killed_twice):
    root, second_attempt, _, _ = killed_twice
    assert "stage 1 classifier: goes on from" in second_attempt
    _, run = described(root)
    assert artifact(root, run.classifier).facts["images_seen"] == 32000


def test_finished_shards_of_the_killed_sampling_were_kept(killed_twice):
    root, _, survivors, output = killed_twice
    _, run = described(root)
    shards = Path(artifact(root, run.pseudo_images).url) / "shards"
    assert {name: (shards / name).stat().st_mtime_ns for name in survivors} == survivors
    assert "stage 2 generator: already made" in output


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
