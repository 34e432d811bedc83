"""A process that ends a local Ray whose job was killed: `python folder_guard.py FOLDER`.

A killed job cannot end the processes of its Ray. Ray's agents notice that the others have gone, and then wait for the
control store for a minute. This process waits for the lock on the job's private folder, which the kernel releases when
the job ends in any way. Then it kills what is left of that Ray and removes the folder. It imports the standard library
alone, so that it starts in some milliseconds and holds little memory.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOCK = "lock"
MARK = "DPT_LOCAL_RAY"
"""Variable in the environment of all processes of a local Ray: the job's private folder."""
QUIET_ROUNDS, ROUND_SECONDS = 3, 0.1
"""So many looks in succession must find no process: one that is killed may have started another."""


def start_guard(folder: Path) -> None:
    """Start the process for a folder that this process has locked."""
    command = [sys.executable, "-I", "-S", __file__, str(folder)]
    nowhere = subprocess.DEVNULL
    # A session of its own, so that Ctrl-C in a terminal does not end it.
    guard = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd="/", start_new_session=True)
    guard.returncode = 0  # it outlives this process, and Python would warn of that


def guard(folder: Path) -> None:
    """Wait for the end of the process that has locked a folder, then kill its Ray and remove the folder."""
    with suppress(OSError):  # the folder has gone already
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    quiet = 0
    while quiet < QUIET_ROUNDS:
        found = list(processes_of(folder))
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(ROUND_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> Iterator[int]:
    """Yield the ids of the living processes of the local Ray with this private folder."""
    mark = f"\0{MARK}={folder}\0".encode()
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with suppress(OSError):  # it has ended, or belongs to another user
            if entry.isdigit() and mark in b"\0" + Path("/proc", entry, "environ").read_bytes():
                yield int(entry)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
