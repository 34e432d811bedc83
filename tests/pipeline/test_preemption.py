"""SIGTERM makes a checkpoint at once; the same command goes on from it, and no step before it is done again."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ray_processes import processes_of
from tiny_runs import artifact, described, files, start_job

from dpt_ray.cli.guard import TRY_AGAIN
from dpt_ray.distributed.checkpoints import images_of, list_checkpoints
from dpt_ray.errors import RESUME

NEVER = "cluster.checkpoint_seconds=100000"
"""No checkpoint is made but for a notice."""
DEADLINE_SECONDS = 240


def begun(job: subprocess.Popen) -> str:
    """Read the output of a job until a training shows progress."""
    read = []
    for line in job.stdout:
        read.append(line)
        if re.search(r"stage 1 classifier: [1-9][\d,]* of", line):
            return "".join(read)
    raise AssertionError(f"the job ended before it trained:\n{''.join(read)}")


def output_of(job: subprocess.Popen) -> str:
    return job.communicate(timeout=DEADLINE_SECONDS)[0]


def images_in(pattern: str, output: str) -> int:
    (found,) = re.findall(pattern, output)
    return int(found.replace(",", ""))


def results(root: Path) -> dict[str, bytes]:
    """The network and the history of stage 1."""
    _, run = described(root)
    found = artifact(root, run.classifier)
    return files(found, "network*") | files(found, "history.json")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_job_that_gets_sigterm_stores_a_checkpoint_and_goes_on_from_it(finished, tmp_path, workers):
    settings = (f"cluster.workers={workers}", NEVER)
    _, run = described(tmp_path)
    folder = str(tmp_path / run.classifier.name / run.classifier.fingerprint)
    job = start_job("train_classifier", tmp_path, *settings)
    begun(job)
    assert list_checkpoints(folder) == []
    job.send_signal(signal.SIGTERM)
    noticed = time.monotonic()
    output = output_of(job)
    assert job.returncode == TRY_AGAIN, output
    assert output.splitlines()[-1] == f"preempted: {RESUME}"
    assert time.monotonic() - noticed < 25, output
    images = images_of(list_checkpoints(folder))
    assert images > 0
    assert images_in(r"stopped by a preemption, and goes on from ([\d,]+) images", output) == images

    again = start_job("train_classifier", tmp_path, *settings)
    output = output_of(again)
    assert again.returncode == 0, output
    assert images_in(r"goes on from ([\d,]+) images", output) == images
    assert results(tmp_path) == results(finished)


@pytest.mark.slow
def test_a_worker_that_gets_sigterm_makes_all_stop_and_start_again_from_there(finished, tmp_path):
    settings = ("cluster.workers=1", "cluster.max_failures=0", NEVER)
    job = start_job("train_classifier", tmp_path, *settings)
    begun(job)
    (worker,) = processes_of(job.pid, "training worker")
    os.kill(worker, signal.SIGTERM)
    output = output_of(job)
    assert job.returncode == 0, output
    assert "worker 1 stops with a checkpoint, since its process got SIGTERM" in output
    images = images_in(r"stopped by a preemption, and goes on from ([\d,]+) images", output)
    assert images_in(r"classifier: goes on from ([\d,]+) images", output) == images
    assert results(tmp_path) == results(finished)


@pytest.mark.slow
def test_inference_ends_soon_and_keeps_finished_units(tmp_path):
    _, run = described(tmp_path)
    folder = Path(tmp_path, run.pseudo_images.name, run.pseudo_images.fingerprint)
    job = start_job("sample", tmp_path)
    while not list(folder.glob("shards/*.tar")):
        assert job.poll() is None, job.stdout.read()
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    noticed = time.monotonic()
    output = output_of(job)
    assert job.returncode == TRY_AGAIN, output
    assert time.monotonic() - noticed < 15
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shards/*.tar")}
    assert kept
    again = start_job("sample", tmp_path)
    assert output_of(again)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
