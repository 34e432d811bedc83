"""The processes of a job with a local Ray, by the part that they play."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_PARTS = (
    ("raylet", re.compile(r"/raylet/raylet$")),
    ("control store", re.compile(r"/gcs_server$")),
)
"""Part -> what a word of the command line ends with."""

_TITLES = (
    ("training worker", re.compile(r"ray::RayTrainWorker")),
    ("controller", re.compile(r"ray::TrainController")),
    ("progress actor", re.compile(r"ray::Board")),
    ("agent", re.compile(r"ray::(DashboardAgent|RuntimeEnvAgent)")),
    ("inference process", re.compile(r"ray::.*(_run_in_task|_Runner|MapWorker)")),
    ("reader", re.compile(r"ray::.*(Read|read)")),
    ("another actor", re.compile(r"ray::(?!IDLE)\w+")),
)
"""Part -> the title that Ray gives the process."""


def _words(process: int) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def command(process: int) -> str:
    """Return the command line of a process, as far as it fits in a line."""
    return " ".join(_words(process))[:200]


def _parent(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[1])


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int) -> list[int]:
    """Return the living processes that a process started, directly or not."""
    children: dict[int, list[int]] = {}
    for process in _numbers():
        children.setdefault(_parent(process), []).append(process)
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def part(process: int) -> str | None:
    """Return the part that a process of a local Ray plays; None for those that no job depends on."""
    words = _words(process)
    for name, pattern in _PARTS:
        if any(pattern.search(word) for word in words[:3]):
            return name
    title = " ".join(words)
    return next((name for name, pattern in _TITLES if pattern.match(title)), None)


def processes_of(driver: int, wanted: str) -> list[int]:
    """Return the processes of a job that play a part; `driver` is the process that was started for the job.

    A job runs in a child of that process with the same command line. Both are drivers.
    """
    if wanted == "driver":
        return [driver, *(below for below in descendants(driver) if _words(below) == _words(driver))]
    return sorted(process for process in descendants(driver) if part(process) == wanted)


def processes_with(folder: str) -> Iterator[int]:
    """Yield the living processes that know a folder from their command line, environment or open files.

    A process that sets its title, as Ray's do, overwrites a part of its environment.
    """
    for process in _numbers():
        if process == os.getpid() or not _parent(process):
            continue
        try:
            place = Path("/proc", str(process))
            known = [(place / name).read_bytes().decode(errors="replace") for name in ("environ", "cmdline")]
            known += [os.readlink(file) for file in (place / "fd").iterdir()]
        except OSError:
            continue
        if any(folder in text for text in known):
            yield process
