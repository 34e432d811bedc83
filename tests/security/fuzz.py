"""Feeds damaged and forged inputs to a reader, under limits of memory and time.

    fuzz.py TARGETS COUNT SEED [FIRST] [--folder FOLDER]

TARGETS are names of `fuzzing/menu.py` with commas between them. Input number n of a target is a function of the
target, the seed and n, so that what failed is repeated by `fuzz.py TARGET 1 SEED n`. Each input must give data, or
complaints of one line each. The first one that gives anything else ends the process with status 1 and a line that says
which; it stays in FOLDER under a name that says the same. That is also how an input is known that ended the process.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

_TESTS = Path(__file__).parents[1]
sys.path += [str(_TESTS), str(_TESTS / "unit")]  # where the builders of inputs are

MEMORY = 1 << 30
"""Bytes that an input may cost beyond the idle process."""
CPU_SECONDS, SECONDS = 10, 60
"""What an input may take of a CPU, and by the clock, which runs on while other processes have the CPU."""


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    from fuzzing.menu import find_target

    numbers = range(options.first, options.first + options.count)
    for name in options.targets.split(","):
        if not _run(name, find_target(name), options.seed, numbers, folder):
            return 1
    return 0


def _run(name, target, seed: int, numbers: range, folder: Path) -> bool:
    """Read inputs of one target; return whether all were read as they should be."""
    corpus = target.corpus()
    for which, data in corpus.items():  # all that is loaded once is then part of the idle process
        if _outcome(target, data) != "data":
            print(f"FAILED {name}: the whole input {which!r} is not read")
            return False
    _limit_memory()
    outcomes = {"data": 0, "complaints": 0}
    longest, peak, idle = 0.0, 0, _peak()
    for number in numbers:
        data = target.make(Random(f"{name}/{seed}/{number}"), corpus)
        kept = folder / f"{name}-{seed}-{number}"
        kept.write_bytes(data)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # both end the process, even within native code
        signal.alarm(SECONDS)
        try:
            outcomes[_outcome(target, data)] += 1
            if _peak() - idle > 0.9 * MEMORY:  # a reader may have caught the error at the limit
                raise MemoryError(f"{(_peak() - idle) >> 20} MiB")
        except BaseException as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAILED {name} seed {seed} number {number} ({kept}): {reason[:1000]!r}", flush=True)
            if not isinstance(error, Exception) or os.environ.get("FUZZ_TRACEBACK"):
                raise
            return False
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        longest = max(longest, time.process_time() - began)
        peak = max(peak, _peak() - idle)
        kept.unlink()
    told = ", ".join(f"{count} {kind}" for kind, count in outcomes.items())
    print(f"{name}: {len(numbers)} inputs, {told}; at most {longest:.1f} s and {peak >> 20} MiB", flush=True)
    return True


def _outcome(target, data: bytes) -> str:
    """Read an input; return whether it gave complaints or data.

    Raises:
        Exception: what a reader must not raise, or a complaint that no log can hold.
    """
    from fuzzing.target import check_complaint

    from dpt_ray.errors import UserError

    with tempfile.TemporaryDirectory() as place:
        complaints = []
        try:
            for text in target.read(data, Path(place)):
                complaints.append(text)
        except UserError as error:
            complaints.append(str(error))
    for text in complaints:
        check_complaint(text)
    return "complaints" if complaints else "data"


def _limit_memory() -> None:
    """Let the process have `MEMORY` more than it has now."""
    limit = _status_bytes("VmData") + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _peak() -> int:
    """Return the bytes of memory that the process had at most.

    `ru_maxrss` is no less than what the parent process had when it started this one, so a large parent would hide what
    an input costs.
    """
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
