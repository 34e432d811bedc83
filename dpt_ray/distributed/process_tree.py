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
