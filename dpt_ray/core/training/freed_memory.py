"""Keep freed memory in the process while it trains on CPUs.

glibc returns a freed tensor of more than 32 MiB to the system at once. The next step allocates it again, and the system
fills its pages with zeros. The functions here do what the variables MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ do, for this process alone. They do nothing if one of these is set, or without glibc.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_VARIABLES = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_TUNABLES = "GLIBC_TUNABLES"

# Parameters of mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1
_KEPT_BYTES = 2**30
"""A tensor of this size or more is returned to the system all the same."""
_USUAL_MMAP, _USUAL_TRIM = 32 * 2**20, 64 * 2**20
"""What glibc's own thresholds rise to when large blocks are freed."""


def use_one_arena() -> None:
    """Let all threads share the main arena, which alone keeps large blocks; call it before threads are started."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_ARENA_MAX, 1)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for the next allocation inside the context, and return it to the system at the end."""
    libc = _glibc()
    if libc is None:
        yield
        return
    if not libc.mallopt(_MMAP_THRESHOLD, _KEPT_BYTES):  # older versions take no more than this:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
    libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc.malloc_trim(0)


def _glibc() -> Any:
    """Return the C library if it is glibc and its allocator is not set by variables, otherwise None."""
    if any(name in os.environ for name in _VARIABLES) or "glibc.malloc" in os.environ.get(_TUNABLES, ""):
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # a symbol of glibc alone
    except (AttributeError, OSError, TypeError):
        return None
    return libc
