"""The processes that a process has started, directly or not, from Linux's /proc."""

import os
from pathlib import Path
from typing import NamedTuple


def descendants(process: int) -> list[int]:
    """Return the ids of the living descendants of a process, parents first; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in _entries():
        children.setdefault(_state(entry).parent, []).append(entry)
    found, left = list[int](), [process]
    while left:
        below = children.get(left.pop(0), [])
        found += below
        left += below
    return found


def has_started(program: str) -> bool:
    """Whether a program that this process has started is running."""
    states = [_state(child) for child in descendants(os.getpid())]
    return any(state.name == program.encode() and not state.is_zombie for state in states)


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


class _State(NamedTuple):
    """What the kernel says of a process; no name and parent 0 if it has ended."""

    name: bytes
    is_zombie: bool
    parent: int


def _state(process: int) -> _State:
    beginning, _, rest = _read(process, "stat").rpartition(b")")  # a name may hold brackets and spaces
    try:
        letter, parent = rest.split()[:2]
        return _State(beginning.partition(b"(")[2], letter == b"Z", int(parent))
    except ValueError:
        return _State(b"", False, 0)
