"""The memory of a cluster's nodes, as Ray counts it: without the object store, and without what others use."""

import math
from collections.abc import Mapping
from typing import Any


def runs_in_memory(run_bytes: int) -> int:
    """Return how many runs of some bytes each the nodes have memory for, together.

    A run's processes are on any nodes, but each node keeps whole runs free, so that no node is overfull by chance.
    """
    return sum(int(min(_MANY, memory // run_bytes)) for memory in _memories())


def largest_memory() -> float:
    """Return the memory in bytes of the node that has most."""
    return max(_memories(), default=0.0)


_MANY = 10_000
"""Runs on a node whose memory Ray does not know."""


def _memories() -> list[float]:
    import ray

    from dpt_ray.distributed import ray_internals  # imports Ray

    draining = ray_internals.draining_nodes()
    return [_memory(node) for node in ray.nodes() if node["Alive"] and node["NodeID"] not in draining]


def _memory(node: Mapping[str, Any]) -> float:
    return float(node["Resources"].get("memory", math.inf))
