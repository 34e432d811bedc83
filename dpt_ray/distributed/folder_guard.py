"""A process that ends a local Ray whose job was killed: `python folder_guard.py FOLDER PROCESS`.

A killed job cannot end the processes of its Ray. Ray's agents notice that the others have gone, and then wait for the
control store for a minute. This process waits for the lock on the job's private folder, which the kernel releases when
the job ends in any way, and for the end of the job itself. Then it kills what is left of that Ray and removes the
folder. It imports the standard library alone, so that it starts in some milliseconds and holds little memory.
"""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOCK = "lock"
QUIET_ROUNDS, ROUND_SECONDS = 3, 0.1
"""So many looks in succession must find no process: one that is killed may have started another."""


def start_guard(folder: Path) -> None:
    """Start the process for a folder that this process has locked."""
    command = [sys.executable, "-I", "-S", __file__, str(folder), str(os.getpid())]
    nowhere = subprocess.DEVNULL
    # A session of its own, so that Ctrl-C in a terminal does not end it.
    guard = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd="/", start_new_session=True)
    guard.returncode = 0  # it outlives this process, and Python would warn of that


def guard(folder: Path, owner: int) -> None:
    """Wait for the end of this process's parent, which has locked a folder; kill its Ray and remove the folder."""
    with suppress(OSError):  # the folder has gone already
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    while os.getppid() == owner:  # it has removed the folder, and still writes to files there
        time.sleep(ROUND_SECONDS)
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
    """Yield the ids of other processes that have a file below a folder open for writing, as all of a Ray have.

    Their environment is not to be relied on: a process that sets its title overwrites a part of it.
    """
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with suppress(OSError):  # it has ended, or belongs to another user
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            if any(_is_written_below(link, folder) for link in os.scandir(f"/proc/{entry}/fd")):
                yield int(entry)


def _is_written_below(link: os.DirEntry[str], folder: Path) -> bool:
    """Whether a link to an open file of a process leads below a folder and is open for writing."""
    try:
        leads_there = os.readlink(link.path).startswith(f"{folder}/")
        return leads_there and bool(os.lstat(link.path).st_mode & stat.S_IWUSR)
    except OSError:  # it is closed
        return False


if __name__ == "__main__":
    guard(Path(sys.argv[1]), int(sys.argv[2]))
