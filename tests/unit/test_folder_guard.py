"""What a killed job has left of its local Ray is ended at once, and its folder removed; other processes stay."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpt_ray.distributed import folder_guard
from dpt_ray.distributed.folder_guard import processes_of

JOB = """
import os, subprocess, sys, time
from dpt_ray.distributed.folder_guard import start_guard
from dpt_ray.distributed.private_folder import make_private_folder, remove_private_folder

folder = make_private_folder()
start_guard(folder)
sleeper = [sys.executable, "-c", "import time; time.sleep(100)"]
(folder / "log").touch()
ours = subprocess.Popen(sleeper, stdout=open(folder / "log", "a"))
other = subprocess.Popen(sleeper, stdin=open(folder / "log"), stdout=subprocess.DEVNULL)
print(folder, ours.pid, other.pid, flush=True)
"""


ENDING = """
ours.kill()
other.kill()
log = open(folder / "log", "a")  # as Ray's library does, to the end
remove_private_folder(folder)
time.sleep(1)
sys.exit(7)
"""
"""An ordinary end, in which the job lives on for longer than its folder."""


@pytest.fixture
def base() -> Iterator[str]:
    """A folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield folder


def start(rest: str, base: str) -> tuple[subprocess.Popen, Path, int, int]:
    """Start a job; return it, its folder, and the ids of a process of its Ray and of another one."""
    environment = {**os.environ, "RAY_TMPDIR": base}
    job = subprocess.Popen([sys.executable, "-c", JOB + rest], stdout=subprocess.PIPE, text=True, env=environment)
    folder, ours, other = job.stdout.readline().split()
    return job, Path(folder), int(ours), int(other)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def guards_of(folder: Path) -> list[str]:
    """The guards of a folder: two words of their command line are the program and the folder."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", entry, "cmdline").read_text().split("\0")
        except OSError:
            continue
        if folder_guard.__file__ in words and str(folder) in words:
            found.append(entry)
    return found


def test_a_killed_job_leaves_no_process_and_no_folder(base):
    job, folder, ours, other = start("time.sleep(100)", base)
    try:
        wait_until(lambda: {ours, job.pid} <= set(processes_of(folder)) and other not in processes_of(folder))
        assert len(guards_of(folder)) == 1
        job.kill()
        job.communicate()
        wait_until(lambda: not folder.exists())
        assert not is_alive(ours)
        assert is_alive(other)
        wait_until(lambda: not guards_of(folder))
    finally:
        os.kill(other, 9)


def test_a_guard_ends_with_a_job_that_removes_its_folder(base):
    job, folder, _, _ = start(ENDING, base)
    job.communicate(timeout=30)
    assert job.returncode == 7
    wait_until(lambda: not guards_of(folder))
    assert os.listdir(base) == []
