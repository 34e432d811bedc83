"""A part of a local Ray dies, or the job is ended, while the job waits for a task: it ends soon, with one line."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crashing import QUICK_SECONDS, outliving, temporary_folder
from ray_processes import processes_of

from dpt_ray.cli.guard import INTERRUPTED
from dpt_ray.errors import RESUME

JOB = """
import os
import time
from dpt_ray.cli.guard import INTERRUPTED, TRY_AGAIN, leave, run_guarded

def wait():
    time.sleep(1000)

def job():
    import ray
    from dpt_ray.config.cluster_section import ClusterConfig
    from dpt_ray.distributed.connection import connect
    connect(ClusterConfig(local_cpus=1))
    task = ray.remote(num_cpus=1)(wait).remote()
    print("ready", os.getpid(), flush=True)
    ray.get(task)

status = run_guarded(job)
if status in (INTERRUPTED, TRY_AGAIN):
    leave(status)
raise SystemExit(status)
"""


FETCHING_JOB = """
import os, sys
from dpt_ray.cli.guard import INTERRUPTED, TRY_AGAIN, leave, run_guarded
from dpt_ray.cli.supervisor import supervised

def job():
    import numpy
    import ray
    from dpt_ray.config.cluster_section import ClusterConfig
    from dpt_ray.distributed.connection import connect
    connect(ClusterConfig(local_cpus=1))
    print("ready", os.getpid(), flush=True)
    while True:
        ray.get(ray.put(numpy.zeros(100_000)))

def run():
    status = run_guarded(job)
    if status in (INTERRUPTED, TRY_AGAIN):
        leave(status)
    return status

sys.exit(supervised(run))
"""
"""A job that uses Ray's object store all the time: Ray ends its process when the store dies."""


def start(program, temporary):
    """Start a job whose local Ray has its files in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "RAY_TMPDIR": str(temporary)},
    )


@pytest.mark.parametrize(
    ("part", "number", "status", "line"),
    [
        ("raylet", signal.SIGKILL, os.EX_TEMPFAIL, f"error: Ray's node manager (raylet) died; {RESUME}\n"),
        ("control store", signal.SIGKILL, os.EX_TEMPFAIL, f"error: Ray's control store (gcs_server) died; {RESUME}\n"),
        ("driver", signal.SIGINT, INTERRUPTED, f"interrupted: {RESUME}\n"),
        ("driver", signal.SIGTERM, os.EX_TEMPFAIL, f"preempted: {RESUME}\n"),
    ],
    ids=["raylet", "control store", "Ctrl-C", "SIGTERM"],
)
def test_a_job_ends_soon_with_a_line_and_leaves_nothing(part, number, status, line):
    with temporary_folder() as temporary:
        job = start(JOB, temporary)
        first = job.stdout.readline()
        assert first == f"ready {job.pid}\n", job.communicate()
        (process,) = processes_of(job.pid, part)
        os.kill(process, number)
        killed = time.monotonic()
        _, told = job.communicate(timeout=10 * QUICK_SECONDS)
        seconds = time.monotonic() - killed
        assert (job.returncode, told.splitlines(keepends=True)[-1]) == (status, line), told
        assert "Traceback" not in told
        assert "***" not in told  # a dump of Ray's; it may log a line of an error
        assert seconds < QUICK_SECONDS
        assert outliving(str(temporary)) == []
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("part", ["raylet", "agent", "driver"])
def test_a_job_that_fetches_results_ends_soon_with_a_line_and_leaves_nothing(part):
    with temporary_folder() as temporary:
        job = start(FETCHING_JOB, temporary)
        assert job.stdout.readline().startswith("ready"), job.communicate()
        os.kill(processes_of(job.pid, part)[-1], signal.SIGKILL)  # of two drivers the child
        killed = time.monotonic()
        _, told = job.communicate(timeout=10 * QUICK_SECONDS)
        assert time.monotonic() - killed < QUICK_SECONDS
        line = told.splitlines()[-1]
        assert (job.returncode, line.partition(":")[0]) == (os.EX_TEMPFAIL, "error"), told
        assert RESUME in line
        assert "Traceback" not in told
        assert outliving(str(temporary)) == []
        assert list(temporary.iterdir()) == []


def test_a_job_without_a_parent_tells_of_a_dead_raylet_too():
    """Ray would end it without a word, as it ends its workers: the parent of both is process 1."""
    with temporary_folder() as temporary:
        output = temporary / "output"
        output.touch()
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(JOB)} >{output} 2>&1 &"
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        subprocess.run(["sh", "-c", command], env={**environment, "RAY_TMPDIR": str(temporary)}, check=True)
        (number,) = _words_of(output, "ready ")
        assert Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1] == "1"
        (process,) = processes_of(int(number), "raylet")
        os.kill(process, signal.SIGKILL)
        _words_of(output, f"error: Ray's node manager (raylet) died; {RESUME}")
        assert outliving(str(temporary)) == []


def _words_of(output: Path, beginning: str) -> list[str]:
    """Wait for a line that begins so, and return the words that follow."""
    deadline = time.monotonic() + 10 * QUICK_SECONDS
    while time.monotonic() < deadline:
        for line in output.read_text().splitlines():
            if line.startswith(beginning):
                return line.removeprefix(beginning).split()
        time.sleep(0.1)
    raise AssertionError(output.read_text())
