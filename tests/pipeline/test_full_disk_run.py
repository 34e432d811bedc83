"""A disk that becomes full while a training stores its checkpoints, on a real small file system."""

import subprocess
from pathlib import Path

import pytest
from tiny_runs import artifact, described, start_job

from dpt_ray.cli.guard import USER_MISTAKE

pytestmark = pytest.mark.slow
SETTINGS = ["stage1.model.width=64", "stage1.images=12800", "cluster.checkpoint_seconds=0.3"]
DEADLINE_SECONDS = 400


@pytest.fixture
def small(tmp_path) -> Path:
    """A file system of 3 MB, which is less than one checkpoint takes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _run(root: Path) -> tuple[int, str]:
    job = start_job("train_classifier", root, *SETTINGS)
    output, _ = job.communicate(timeout=DEADLINE_SECONDS)
    return job.returncode, output


def test_a_full_disk_ends_a_training_with_a_line_and_the_same_command_goes_on(small):
    _, run = described(small / "r", *SETTINGS)
    status, output = _run(small / "r")
    assert status == USER_MISTAKE, output
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"error: {small}/r/classifier/{run.classifier.fingerprint}/checkpoints/images_")
    assert "cannot be written (No space left on device); free some space there; the same command then goes on" in last

    subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
    status, output = _run(small / "r")
    assert status == 0, output
    assert artifact(small / "r", run.classifier).facts["images_seen"] == 12800
