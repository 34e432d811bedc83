"""While a training runs on CPUs, large tensors are allocated from memory that was freed before."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import resource, sys, threading
import torch
from dpt_ray.core.training.freed_memory import freed_memory_kept, use_one_arena

MIB, ROUNDS = 48, 10

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(ROUNDS):
        torch.ones(MIB * 2**18)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

def measure():
    usual = faults()
    start = resident()
    with freed_memory_kept():
        faults()
        inside, kept = faults(), resident() - start
    print(usual, inside, kept, resident() - start)

use_one_arena()
thread = threading.Thread(target=measure)
thread.start()
thread.join()
"""


def measured(**variables: str) -> list[float]:
    """Return faults before and inside the context, and MiB more resident memory inside and after it."""
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return [float(word) for word in ran.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
def test_large_tensors_reuse_freed_memory_which_is_returned_at_the_end():
    usual, inside, kept, after = measured()
    assert inside * 5 < usual
    assert kept > 40
    assert after < 16


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and is about glibc")
def test_the_variables_of_glibc_go_first():
    usual, inside, _, _ = measured(MALLOC_MMAP_THRESHOLD_=str(2**20))
    assert inside * 2 > usual
