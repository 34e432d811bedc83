"""The processes that a process has started, directly or not, from Linux's /proc."""

import os
from pathlib import Path


def descendants(process: int) -> list[int]:
    """Return the ids of the living descendants of a process, parents first; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in _entries():
        children.setdefault(_parent(entry), []).append(entry)
    found, left = list[int](), [process]
    while left:
        below = children.get(left.pop(0), [])
        found += below
        left += below
    return found


def has_started(program: str) -> bool:
    """Whether a program that this process has started is running."""
    stats = [_read(child, "stat") for child in descendants(os.getpid())]
    beginnings = [stat.partition(b"(")[2].rpartition(b")") for stat in stats]
    return any(name == program.encode() and rest.split()[0] != b"Z" for name, _, rest in beginnings if rest.split())


def submitted_jobs(variable: str) -> list[int]:
    """Return the ids of this user's Python processes that are the scripts of submitted jobs, not their children.

    Args:
        variable: name of the variable in the environment of every submitted job.
    """
    own = f"{variable}=".encode()
    found = {entry for entry in _entries() if _is_python(entry) and own in b"\0" + _read(entry, "environ")}
    below = {child for entry in found for child in descendants(entry)}
    return sorted(found - below - {os.getpid()})


def _is_python(process: int) -> bool:
    return os.path.basename(_read(process, "cmdline").partition(b"\0")[0]).startswith(b"python")


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:  # it has ended, or belongs to another user
        return b""


def _entries() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):  # it has ended
        return 0
