"""The machine that a job starts on: what a recipe must know of it."""

import os
from dataclasses import dataclass

import torch

from dpt_ray.distributed.address import named_address

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
        alone: whether jobs run on this machine, and not on a cluster that RAY_ADDRESS names.
    """

    cpus: int
    gpus: int = 0
    gpu: str = ""
    bfloat16: bool = False
    alone: bool = True


def this_machine() -> Machine:
    """Return what this process can use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    alone = named_address() is None
    if not torch.cuda.is_available():
        return Machine(cpus, alone=alone)
    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    return Machine(cpus, torch.cuda.device_count(), name, capability >= _BFLOAT16_SINCE, alone)
