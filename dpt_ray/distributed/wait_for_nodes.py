"""Waiting for a cluster to grow: nodes are added on demand, and lost ones replaced, only after a while."""

import logging
import time
from collections.abc import Callable, Mapping

LOOK_SECONDS = 2.0

logger = logging.getLogger("dpt_ray.cluster")


def wait_for_resources(process: Mapping[str, float], processes: int, seconds: float) -> None:
    """Ask the autoscaler, if there is one, for room for a group of processes, and wait for it.

    Returns when there is room in total or the time is over; what is still missing is for the caller to tell.

    Args:
        process: what each process reserves, by Ray's names of resources.
        processes: how many there are.
        seconds: time to wait, at most; 0 asks for nothing.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    wanted = {name: processes * amount for name, amount in process.items()}
    if seconds <= 0 or not missing(wanted, ray.cluster_resources()):
        return
    # An autoscaler sees what waits for a place; nothing waits before a step has begun.
    request_resources(bundles=[dict(process)] * processes)
    try:
        wait_until_there(wanted, ray.cluster_resources, seconds)
    finally:
        request_resources(bundles=[])


def wait_until_there(wanted: Mapping[str, float], total: Callable[[], Mapping[str, float]], seconds: float) -> bool:
    """Look at the `total` of the cluster until it has what is `wanted`; return whether it has."""
    deadline = time.monotonic() + seconds
    lacking = missing(wanted, total())
    if lacking:
        logger.warning("waiting up to %.0f s for nodes: the cluster lacks %s", seconds, lacking)
    while lacking:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(LOOK_SECONDS, left))
        lacking = missing(wanted, total())
    return True


def missing(wanted: Mapping[str, float], total: Mapping[str, float]) -> str:
    """Say what a cluster lacks, such as `2 GPUs`; an empty text if nothing."""
    lacks = {name: amount - total.get(name, 0.0) for name, amount in wanted.items()}
    return " and ".join(f"{amount:g} {name}s" for name, amount in sorted(lacks.items()) if amount > 1e-6)
