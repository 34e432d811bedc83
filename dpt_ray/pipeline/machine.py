"""The machine that a job starts on: what a recipe must know of it."""

import os
from dataclasses import dataclass

import torch

_BFLOAT16_SINCE = (8, 0)
"""Compute capability of the first GPUs with bfloat16."""


@dataclass(frozen=True)
class Machine:
    """What a recipe must know of a machine.

    Attributes:
        cpus: CPU cores that this process may use.
        gpus: number of GPUs.
        gpu: name of the first GPU; empty without one.
        bfloat16: whether the first GPU computes in bfloat16.
    """

    cpus: int
    gpus: int = 0
    gpu: str = ""
    bfloat16: bool = False


def this_machine() -> Machine:
    """Return what this process can use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not torch.cuda.is_available():
        return Machine(cpus)
    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    return Machine(cpus, torch.cuda.device_count(), name, capability >= _BFLOAT16_SINCE)
