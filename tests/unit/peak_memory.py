"""How much memory a call takes at most, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def at_most_mib(limit: int) -> Iterator[None]:
    """Fail if the body takes more memory than `limit`, in MiB, beyond what the process has before it.

    Linux keeps the peak since the start of a process, which another test may have set; it is set back first.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = _mib("VmRSS")
    yield
    assert _mib("VmHWM") - before < limit


def _mib(field: str) -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) / 1024
